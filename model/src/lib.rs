//! The replicated state machine: commands and how they apply; pure.
