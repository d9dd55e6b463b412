//! By its words: a small lexicon, sentence by sentence, later texts counting more.

use command_tower::prelude::*;
use serde::Deserialize;

use crate::score::{Found, Reason};

#[derive(Deserialize)]
struct Texts {
    texts: Vec<Text>,
}

#[derive(Deserialize)]
struct Text {
    source: String,
    date: String,
    text: String,
}

/// Beginnings of words, and how they sound in a report. The longest that fits counts.
const LEXICON: &[(&str, f64)] = &[
    ("affordable", 1.0),
    ("grew", 1.5),
    ("grow", 1.5),
    ("growth", 1.5),
    ("improve", 1.5),
    ("positive", 1.0),
    ("profit", 0.5),
    ("record", 2.0),
    ("strong", 1.0),
    ("return", 0.5),
    ("competition", -1.0),
    ("declin", -1.5),
    ("delay", -1.5),
    ("difficult", -1.0),
    ("fell", -1.5),
    ("inventory", -0.5),
    ("litigation", -1.0),
    ("lower", -1.0),
    ("negative", -1.5),
    ("pressure", -1.5),
    ("restructuring", -1.0),
    ("risk", -1.0),
    ("tariff", -1.0),
    ("uncertain", -1.0),
    ("weigh", -1.0),
];

/// What turns the meaning of the next few words.
const NEGATIONS: &[&str] = &["not", "no", "never", "without", "less"];

/// What makes the next word weaker.
const SOFTENERS: &[&str] = &["slight", "slightly", "may", "somewhat"];

/// What is good when there is less of it: "cost fell" is no bad news.
const BURDENS: &[&str] = &["cost", "costs"];

/// Words after a negation that it still reaches.
const REACH_WORDS: usize = 3;

/// Keeps a text with few telling words near the middle.
const CAUTION: f64 = 2.0;

/// What the texts say.
pub fn find(texts: &str) -> Result<Found> {
    let texts: Value = texts.parse()?;
    let Texts { texts } = Texts::deserialize(texts)?;
    let mut found = Found { reasons: Vec::new(), sources: Vec::new() };
    for (index, Text { source, date, text }) in texts.iter().enumerate() {
        let tone = listen(text);
        let text = format!("{source} sounds {}: {}", tone.name(), tone.telling.join(", "));
        found.reasons.push(Reason::new(source, tone.balance(), (-1.0, 1.0), 1.0 + 0.2 * index as f64, text));
        found.sources.push(format!("{source} ({date}), paraphrased"));
    }
    Ok(found)
}

#[derive(Default)]
struct Tone {
    good: f64,
    bad: f64,
    telling: Vec<String>,
}

impl Tone {
    /// -1 for all bad, 1 for all good.
    fn balance(&self) -> f64 {
        (self.good - self.bad) / (self.good + self.bad + CAUTION)
    }

    fn name(&self) -> &'static str {
        match self.balance() {
            balance if balance > 0.2 => "good",
            balance if balance < -0.2 => "bad",
            _ => "mixed",
        }
    }
}

fn listen(text: &str) -> Tone {
    let mut tone = Tone::default();
    for sentence in text.split(['.', ';', ':', '!', '?', ',']) {
        let words: Vec<String> = sentence.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect();
        for (index, word) in words.iter().enumerate() {
            let Some(value) = value(word) else { continue };
            let before = &words[..index];
            let turned = before.iter().rev().take(REACH_WORDS).any(|word| NEGATIONS.contains(&word.as_str()));
            let relieved = value < 0.0 && before.iter().any(|word| BURDENS.contains(&word.as_str()));
            let softened = before.iter().rev().take(1).any(|word| SOFTENERS.contains(&word.as_str()));
            let value = value * if turned || relieved { -1.0 } else { 1.0 } * if softened { 0.5 } else { 1.0 };
            if value > 0.0 {
                tone.good += value;
            } else {
                tone.bad -= value;
            }
            tone.telling.push(if turned || relieved { format!("{word} (turned)") } else { word.clone() });
        }
    }
    tone
}

fn value(word: &str) -> Option<f64> {
    LEXICON.iter().filter(|(beginning, _)| word.starts_with(beginning)).max_by_key(|(beginning, _)| beginning.len()).map(|(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_news_and_bad_news_are_told_apart() {
        assert!(listen("Revenue grew to a record").balance() > 0.4);
        assert!(listen("Deliveries declined under pressure").balance() < -0.4);
        assert_eq!(listen("The company makes cars").balance(), 0.0);
    }

    #[test]
    fn negations_softeners_and_burdens_change_what_a_word_says() {
        assert!(listen("there was no growth").balance() < 0.0);
        assert!(listen("slightly lower").bad < listen("much lower").bad);
        assert!(listen("cost per vehicle fell").balance() > 0.0);
    }

    #[test]
    fn a_negation_ends_with_its_clause() {
        assert!(listen("not yet, growth").balance() > 0.0);
    }

    #[test]
    fn the_texts_of_2024_turn_from_worse_to_better() {
        let found = find(crate::TESLA_2024.texts).expect("the data should fit");
        let scores: Vec<f64> = found.reasons.iter().map(|reason| reason.score).collect();
        assert_eq!(scores.len(), 6);
        assert!(scores[1] < 0.4 && scores[3] > 0.6, "{scores:?}");
    }
}
