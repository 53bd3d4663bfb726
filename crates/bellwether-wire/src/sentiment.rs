//! The mood of a support message, from -1 (frustrated) to 1 (delighted): the VADER compound score.
//!
//! Hutto and Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text", ICWSM 2014. English words;
//! a text in another language scores near 0, so producers with a better model send their own `value`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use vader_sentimental::SentimentIntensityAnalyzer;

use crate::scalar::cut;

/// Bytes of a text that are read. A message that is angry is angry before its fourth kilobyte.
const TEXT_BYTES_MAX: usize = 4096;

/// A lexicon, ready to use.
#[derive(Debug)]
pub(crate) struct Sentiment {
    analyzer: SentimentIntensityAnalyzer<'static>,
}

impl Sentiment {
    /// Loads the lexicon, once in a process.
    pub(crate) fn new() -> Sentiment {
        Sentiment { analyzer: SentimentIntensityAnalyzer::new() }
    }

    /// The compound score of a text, -1 to 1; none for a text without a word, or where the lexicon fails.
    pub(crate) fn score(&self, text: &str) -> Option<f64> {
        let text = cut(text, TEXT_BYTES_MAX);
        if !text.chars().any(char::is_alphanumeric) {
            return None;
        }
        // The library indexes tokens; a text that makes it panic costs its sentiment, not the worker.
        let scores = catch_unwind(AssertUnwindSafe(|| self.analyzer.polarity_scores(text)));
        scores.ok().map(|scores| scores.compound).filter(|compound| compound.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frustration_scores_below_thanks() {
        let sentiment = Sentiment::new();
        let angry = sentiment
            .score("This is the third outage, we are extremely frustrated!")
            .expect("words");
        let neutral = sentiment.score("How do I export a report to CSV?").expect("words");
        let happy = sentiment.score("Thanks, that works great!").expect("words");
        assert!(
            angry < -0.3 && (-0.2..0.2).contains(&neutral) && happy > 0.3,
            "{angry} {neutral} {happy}"
        );
    }

    #[test]
    fn odd_texts_have_no_score_or_one_in_range() {
        let sentiment = Sentiment::new();
        assert_eq!(sentiment.score(" ?!… "), None);
        for text in
            ["but", "kind of", "never so", "😡😡 a", &"é".repeat(10_000), &"no ".repeat(50_000)]
        {
            let score = sentiment.score(text).expect("there is a letter");
            assert!((-1.0..=1.0).contains(&score), "{score}");
        }
    }
}
