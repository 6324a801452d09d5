//! Files with one mistake each, and what has to be said of it.

/// A file, and where its mistake is told to be.
pub(crate) struct Case {
    /// What is wrong.
    pub(crate) name: &'static str,
    /// The whole file.
    pub(crate) text: &'static str,
    /// Line and column.
    pub(crate) place: &'static str,
    /// The field, as `ambit check -o json` gives it.
    pub(crate) field: Option<&'static str>,
    /// Words of the message.
    pub(crate) says: &'static str,
    /// Words of what to do.
    pub(crate) hint: &'static str,
}

impl Case {
    /// Whether nothing but a policy cannot be read, whose pods are certain: an agent that starts has something to stand in
    /// for it.
    pub(crate) fn is_policy(&self) -> bool {
        self.text.contains("kind: AccessPolicy")
    }
}

/// Every mistake that refuses a whole directory. The pod `shop/server` of the harness has 10.1.0.10.
pub(crate) const CASES: [Case; 12] = [
    Case {
        name: "unparsable file",
        text: "apiVersion: v1\nkind: [unclosed\n",
        place: ":2:7",
        field: None,
        says: "cannot be parsed: unclosed bracket",
        hint: "",
    },
    Case {
        name: "binary file",
        text: "\u{0}\u{1}\u{2}\u{7f}",
        place: ":1:",
        field: None,
        says: "cannot be parsed",
        hint: "",
    },
    Case {
        name: "no object",
        text: "just some words\n",
        place: ":1:1",
        field: None,
        says: "expected an object with apiVersion and kind",
        hint: "",
    },
    Case {
        name: "unknown kind",
        text: "apiVersion: v1\nkind: Pot\nmetadata: {name: x}\n",
        place: ":2:1",
        field: Some("kind"),
        says: "unknown kind \"Pot\"",
        hint: "did you mean `Pod`?",
    },
    Case {
        name: "unknown field in a policy",
        text: "apiVersion: ambit.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {namespace: shop, name: typo}\n\
               spec:\n  rules:\n  - from:\n    - serviceAccount: [client]\n",
        place: ":7:7",
        field: Some("spec.rules[0].from[0].serviceAccount"),
        says: "unknown field",
        hint: "did you mean `serviceAccounts`?",
    },
    Case {
        name: "field of the wrong type",
        text: "apiVersion: ambit.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {namespace: shop, name: type}\n\
               spec: {dryRun: \"yes\", rules: [{from: [{anyone: true}]}]}\n",
        place: ":4:",
        field: Some("spec.dryRun"),
        says: "true or false",
        hint: "",
    },
    Case {
        name: "port that does not exist",
        text: "apiVersion: ambit.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {namespace: shop, name: port}\n\
               spec: {rules: [{to: [{ports: [70000]}]}]}\n",
        place: ":4:",
        field: Some("spec.rules[0].to[0].ports[0]"),
        says: "port",
        hint: "",
    },
    Case {
        name: "empty Deny",
        text: "apiVersion: ambit.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {namespace: shop, name: empty}\n\
               spec:\n  action: Deny\n",
        place: ":4:1",
        field: Some("spec"),
        says: "a Deny policy without rules refuses nobody",
        hint: "write `rules: [{from: [{anyone: true}]}]` to refuse everyone",
    },
    Case {
        name: "Pod without IP",
        text: "apiVersion: v1\nkind: Pod\nmetadata: {namespace: shop, name: homeless}\nspec: {nodeName: a}\n\
               status: {phase: Running}\n",
        place: ":5:1",
        field: Some("status.podIP"),
        says: "the pod has no address",
        hint: "add `status: {podIP: ADDRESS}`",
    },
    Case {
        name: "two pods with one IP",
        text: "apiVersion: v1\nkind: Pod\nmetadata: {namespace: shop, name: twin}\nspec: {nodeName: a}\n\
               status: {phase: Running, podIP: 10.1.0.10}\n",
        place: ":5:26",
        field: Some("status.podIP"),
        says: "10.1.0.10",
        hint: "every pod needs an address of its own",
    },
    Case {
        name: "address that is none",
        text: "apiVersion: v1\nkind: Pod\nmetadata: {namespace: shop, name: odd}\nspec: {nodeName: a}\n\
               status: {phase: Running, podIP: 10.1.0.300}\n",
        place: ":5:26",
        field: Some("status.podIP"),
        says: "\"10.1.0.300\" is no address",
        hint: "",
    },
    Case {
        name: "one name twice",
        text: "apiVersion: v1\nkind: Namespace\nmetadata: {name: twice}\n---\napiVersion: v1\nkind: Namespace\n\
               metadata: {name: twice}\n",
        place: ":7:",
        field: Some("metadata.name"),
        says: "is defined twice, first at",
        hint: "remove one of the two",
    },
];
