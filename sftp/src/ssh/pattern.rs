//! Patterns for names, as `ssh_config(5)` (section PATTERNS) defines them.

/// Returns whether a name matches a pattern of `ssh`: `*` is any text, `?` any character.
#[must_use]
pub fn matches_pattern(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
    // The place to backtrack to: behind the last star, and how much of the text it took.
    let (mut at, mut of, mut star) = (0, 0, None);
    while at < text.len() {
        match pattern.get(of) {
            Some('*') => {
                star = Some((of + 1, at));
                of += 1;
            }
            Some(&c) if c == '?' || text.get(at) == Some(&c) => {
                at += 1;
                of += 1;
            }
            _ => match star {
                Some((behind, taken)) => {
                    star = Some((behind, taken + 1));
                    (of, at) = (behind, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(of).all(|&c| c == '*')
}
