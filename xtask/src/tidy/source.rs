//! Tells a Rust file's code from its comments and literals, line by line: enough for the house rules, no parser.

/// A line of a source file, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    /// The code; literals are blanked out.
    pub(super) code: String,
    /// The text of comments.
    pub(super) comment: String,
}

enum State {
    Code,
    LineComment,
    /// Block comments nest.
    BlockComment(usize),
    /// A string; a raw one ends with its number of `#`.
    Text {
        raw: Option<usize>,
    },
}

/// Takes `text` apart into lines.
pub(super) fn lines(text: &str) -> Vec<Line> {
    let chars: Vec<char> = text.chars().collect();
    let mut lines = vec![Line::default()];
    let mut state = State::Code;
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let rest = chars.get(at..).unwrap_or_default();
        if c == '\n' {
            if matches!(state, State::LineComment) {
                state = State::Code;
            }
            lines.push(Line::default());
            at += 1;
            continue;
        }
        let Some(line) = lines.last_mut() else { break };
        let (taken, next) = match state {
            State::Code => step_in_code(rest, at.checked_sub(1).and_then(|before| chars.get(before)), line),
            State::LineComment => {
                line.comment.push(c);
                (1, None)
            }
            State::BlockComment(depth) => step_in_block_comment(rest, depth, line),
            State::Text { raw } => step_in_text(rest, raw),
        };
        at += taken;
        if let Some(next) = next {
            state = next;
        }
    }
    lines
}

fn step_in_code(rest: &[char], before: Option<&char>, line: &mut Line) -> (usize, Option<State>) {
    match rest {
        ['/', '/', ..] => (2, Some(State::LineComment)),
        ['/', '*', ..] => (2, Some(State::BlockComment(1))),
        ['"', ..] => (1, Some(State::Text { raw: None })),
        ['r', tail @ ..] if !before.is_some_and(|c| is_word(*c) && *c != 'b' && *c != 'c') => {
            let hashes = tail.iter().take_while(|c| **c == '#').count();
            if tail.get(hashes) == Some(&'"') {
                return (hashes + 2, Some(State::Text { raw: Some(hashes) }));
            }
            line.code.push('r');
            (1, None)
        }
        // A character, not a lifetime: it closes after one character or an escape.
        ['\'', '\\', _, tail @ ..] => {
            let length = tail.iter().take_while(|c| **c != '\'').count();
            (length + 4, None)
        }
        ['\'', _, '\'', ..] => (3, None),
        [c, ..] => {
            line.code.push(*c);
            (1, None)
        }
        [] => (1, None),
    }
}

fn step_in_block_comment(rest: &[char], depth: usize, line: &mut Line) -> (usize, Option<State>) {
    match rest {
        ['/', '*', ..] => (2, Some(State::BlockComment(depth + 1))),
        ['*', '/', ..] if depth == 1 => (2, Some(State::Code)),
        ['*', '/', ..] => (2, Some(State::BlockComment(depth - 1))),
        [c, ..] => {
            line.comment.push(*c);
            (1, None)
        }
        [] => (1, None),
    }
}

fn step_in_text(rest: &[char], raw: Option<usize>) -> (usize, Option<State>) {
    match (raw, rest) {
        // The escaped character may be the end of the line, which the caller must see.
        (None, ['\\', '\n', ..]) => (1, None),
        (None, ['\\', ..]) => (2, None),
        (None, ['"', ..]) => (1, Some(State::Code)),
        (Some(hashes), ['"', tail @ ..]) if tail.iter().take_while(|c| **c == '#').count() >= hashes => {
            (hashes + 1, Some(State::Code))
        }
        _ => (1, None),
    }
}

/// Returns whether `c` may stand in an identifier.
pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Returns whether `word` stands in `text` as a word of its own.
pub(super) fn has_word(text: &str, word: &str) -> bool {
    text.split(|c| !is_word(c)).any(|found| found == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> Vec<String> {
        lines(text).into_iter().map(|line| line.code).collect()
    }

    #[test]
    fn literals_and_comments_are_no_code() {
        for (text, left) in [
            ("let a = \"unsafe \\\" unsafe\";", "let a = ;"),
            ("let a = r#\"unsafe \" unsafe\"#;", "let a = ;"),
            ("let a = br\"unsafe\\\";", "let a = b;"),
            ("a /* unsafe /* unsafe */ unsafe */ b", "a  b"),
            ("a // unsafe", "a "),
            ("f('\"', '\\'', '\\u{1f}', b'\\\\')", "f(, , , b)"),
            ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
            ("let r#type = for_r;", "let r#type = for_r;"),
        ] {
            assert_eq!(code(text), [left], "{text}");
        }
    }

    #[test]
    fn lines_keep_their_numbers() {
        assert_eq!(code("\"a\nb\\\nc\" + x\n// c\ny"), ["", "", " + x", "", "y"]);
    }

    #[test]
    fn comments_are_kept_apart() {
        let comments: Vec<String> =
            lines("a // one\n/* two\nthree */ b").into_iter().map(|l| l.comment).collect();
        assert_eq!(comments, [" one", " two", "three "]);
    }
}
