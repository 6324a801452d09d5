//! Which of the translated policies are written: those whose pods lose nothing by what could not be translated.
//!
//! A refused object that protected pods leaves a gap. Nothing is written for pods in a gap, nor for pods whose other
//! policies are kept back for that reason: half a set of policies would admit what the whole set refuses.

use ambit_core::{Action, Mode, Policy};

use super::report::{Kind, Report};
use super::selection::Selection;
use super::source::Object;
use crate::control::finding::Finding;

/// Whose policies were translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mesh {
    Istio,
    Linkerd,
    Dapr,
}

/// A policy that is to be written, if its pods are in no gap.
#[derive(Clone, Debug)]
pub(crate) struct Draft<'a> {
    pub(crate) policy: Policy,
    pub(crate) mesh: Mesh,
    /// The objects that it comes from; the first one stands for it in the report.
    pub(crate) from: Vec<&'a Object>,
}

/// The mode of a namespace, or of a pod.
#[derive(Clone, Debug)]
pub(crate) struct ModeLabel<'a> {
    /// The pod; absent: the namespace itself.
    pub(crate) pod: Option<String>,
    pub(crate) namespace: String,
    pub(crate) mode: Mode,
    pub(crate) from: &'a Object,
}

/// Pods that something protected which could not be translated.
#[derive(Clone, Debug)]
struct Gap<'a> {
    object: &'a Object,
    selection: Selection,
    /// Of which mesh an Allow policy for all of the pods makes up for it: it refuses what the lost one would have refused.
    closed_by: Option<Mesh>,
}

/// What has been translated so far.
#[derive(Debug, Default)]
pub(crate) struct Ledger<'a> {
    pub(crate) report: Report,
    drafts: Vec<Draft<'a>>,
    labels: Vec<ModeLabel<'a>>,
    gaps: Vec<Gap<'a>>,
}

/// What is left of it.
pub(crate) struct Settled<'a> {
    pub(crate) report: Report,
    pub(crate) drafts: Vec<Draft<'a>>,
    pub(crate) labels: Vec<ModeLabel<'a>>,
}

impl Gap<'_> {
    fn is_closed_by(&self, drafts: &[Draft<'_>]) -> bool {
        drafts.iter().any(|draft| {
            Some(draft.mesh) == self.closed_by
                && draft.is_enforced_allow()
                && self.selection.within(&draft.selection())
        })
    }
}

impl Draft<'_> {
    fn selection(&self) -> Selection {
        Selection { namespace: self.policy.id.namespace.clone(), selector: self.policy.selector.clone() }
    }

    fn is_enforced_allow(&self) -> bool {
        self.policy.action == Action::Allow && !self.policy.dry_run
    }
}

impl<'a> Ledger<'a> {
    pub(crate) fn draft(&mut self, draft: Draft<'a>) {
        self.drafts.push(draft);
    }

    pub(crate) fn label(&mut self, label: ModeLabel<'a>) {
        self.labels.push(label);
    }

    /// Refuses an object whose absence protects nobody less.
    pub(crate) fn refuse(&mut self, object: &'a Object, finding: Finding) {
        self.report.add(Kind::Refused, object, finding);
    }

    /// Refuses an object that protected these pods.
    pub(crate) fn refuse_protection(&mut self, object: &'a Object, finding: Finding, selection: Selection) {
        self.report.add(Kind::Refused, object, finding);
        self.gaps.push(Gap { object, selection, closed_by: None });
    }

    /// Refuses an object that admits callers to these pods, and by being there refuses all others.
    pub(crate) fn refuse_admission(
        &mut self,
        object: &'a Object,
        finding: Finding,
        selection: Selection,
        mesh: Mesh,
    ) {
        self.report.add(Kind::Refused, object, finding);
        self.gaps.push(Gap { object, selection, closed_by: Some(mesh) });
    }

    /// Keeps back what must not be written alone.
    pub(crate) fn settle(mut self) -> Settled<'a> {
        self.separate_meshes();
        let mut kept = std::mem::take(&mut self.drafts);
        let gaps = std::mem::take(&mut self.gaps);
        let (mut closed, mut opened): (Vec<Gap<'_>>, Vec<Gap<'_>>) =
            gaps.into_iter().partition(|gap| gap.is_closed_by(&kept));
        let mut known: Vec<Selection> = Vec::new();
        let mut fresh: Vec<(Selection, String)> = Vec::new();
        loop {
            for gap in opened.drain(..) {
                self.report_gap(&gap);
                fresh.push((gap.selection, gap.object.titled_place()));
            }
            fresh.retain(|(selection, _)| !known.contains(selection));
            if fresh.is_empty() {
                break;
            }
            known.extend(fresh.iter().map(|(selection, _)| selection.clone()));
            let mut withheld = Vec::new();
            kept.retain(|draft| {
                let selection = draft.selection();
                let cause = fresh.iter().find(|(gap, _)| gap.may_overlap(&selection));
                withheld.extend(cause.map(|(_, cause)| (draft.clone(), cause.clone())));
                cause.is_none()
            });
            fresh = self.withhold(&withheld);
            // Only a gap that something withheld has closed can open.
            let (open, still): (Vec<Gap<'_>>, Vec<Gap<'_>>) = closed.into_iter().partition(|gap| {
                withheld.iter().any(|(draft, _)| gap.is_closed_by(std::slice::from_ref(draft)))
                    && !gap.is_closed_by(&kept)
            });
            (opened, closed) = (open, still);
        }
        Settled { report: self.report, drafts: kept, labels: self.labels }
    }

    /// Says that policies are kept back, and returns the pods that they would have protected.
    fn withhold(&mut self, withheld: &[(Draft<'a>, String)]) -> Vec<(Selection, String)> {
        let mut gaps = Vec::new();
        for (draft, cause) in withheld {
            for object in draft.from.iter().filter(|object| object.titled_place() != *cause) {
                let message =
                    format!("not written: some of its pods may be those of {cause}, which is refused");
                self.report.add(Kind::Refused, object, object.cursor().finding(message));
            }
            if !draft.policy.dry_run {
                gaps.push((draft.selection(), cause.clone()));
            }
        }
        gaps
    }

    fn report_gap(&mut self, gap: &Gap<'a>) {
        let pods = gap.selection.describe();
        let message = format!("NO POLICY IS WRITTEN for {pods}: what this object refuses would be admitted");
        let hint = "write it as an AccessPolicy by hand, or change it and import again";
        self.report.add(Kind::Refused, gap.object, gap.object.cursor().finding(message).with_hint(hint));
    }

    /// Makes a gap where policies of two meshes admit callers to the same pods: each of them refuses what the other admits,
    /// while Allow policies of ambit add up.
    fn separate_meshes(&mut self) {
        let mut gaps = Vec::new();
        let first = self.drafts.first().map(|draft| draft.mesh);
        if self.drafts.iter().all(|draft| Some(draft.mesh) == first) {
            return;
        }
        for (index, draft) in self.drafts.iter().enumerate().filter(|(_, draft)| draft.is_enforced_allow()) {
            let clashes = |other: &&Draft<'_>| {
                other.mesh != draft.mesh
                    && other.is_enforced_allow()
                    && other.selection().may_overlap(&draft.selection())
            };
            let Some(other) = self.drafts[..index].iter().find(clashes) else { continue };
            let (Some(object), Some(first)) = (draft.from.first(), other.from.first()) else { continue };
            let message = format!("{} of another mesh admits callers to the same pods", first.titled_place());
            let hint = "both would have to admit a caller, while Allow policies add up: import the meshes one by one";
            self.report.add(Kind::Refused, object, object.cursor().finding(message).with_hint(hint));
            gaps.push(Gap { object, selection: draft.selection(), closed_by: None });
        }
        self.gaps.extend(gaps);
    }
}

#[cfg(test)]
mod tests;
