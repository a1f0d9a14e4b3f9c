//! What can be wrong with a request for a forecast.

/// Why a series could not be cleaned, fitted or forecast.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ForecastError {
    /// No value at all, or only gaps.
    #[error("the series has no value: a forecast needs at least {need} hours of history")]
    Empty {
        /// Hours that the engine needs.
        need: usize,
    },
    /// Fewer hours than the engine needs.
    #[error("the series has {have} hours with a value, and {engine} needs {need}")]
    TooShort {
        /// Name of the engine.
        engine: &'static str,
        /// Hours with a value.
        have: usize,
        /// Hours that the engine needs.
        need: usize,
    },
    /// A value that is infinite or too large to compute with.
    #[error("the value at position {position} is {value}: values must lie within ±1e15")]
    Value {
        /// Position in the input.
        position: usize,
        /// The value found.
        value: f64,
    },
    /// A longer span than is held.
    #[error("the series spans {hours} hours: at most {max} are held")]
    TooLong {
        /// Hours from the first to the last point.
        hours: u64,
        /// The bound.
        max: usize,
    },
    /// A horizon of 0 or beyond the bound.
    #[error("the horizon is {asked} hours: it must be 1 to {max}")]
    Horizon {
        /// Hours asked for.
        asked: usize,
        /// The bound.
        max: usize,
    },
    /// A parameter out of its range.
    #[error("{name} is {value}: it must be {want}")]
    Parameter {
        /// Name of the parameter.
        name: &'static str,
        /// The value given.
        value: f64,
        /// What would be right.
        want: &'static str,
    },
    /// A choice names an engine that is not at hand.
    #[error("the engine {name} is not at hand: this series' choice needs it")]
    UnknownEngine {
        /// The name in the choice.
        name: String,
    },
    /// A stored model that cannot be used.
    #[error("the forecast model cannot be used: {why}")]
    Artifact {
        /// What is wrong with it.
        why: String,
    },
}

/// Checks that a horizon is within bounds.
///
/// # Errors
/// [`ForecastError::Horizon`] for 0 and for more than [`super::MAX_HORIZON`].
pub fn check_horizon(asked: usize) -> Result<(), ForecastError> {
    if asked == 0 || asked > super::MAX_HORIZON {
        return Err(ForecastError::Horizon { asked, max: super::MAX_HORIZON });
    }
    Ok(())
}
