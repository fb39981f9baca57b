//! `edgegen-train presets`

use edgegen_trainer::train::presets;

/// Prints every preset.
pub(super) fn run() {
    for preset in presets::all() {
        say!("{:<12} {}", preset.config.preset, preset.about);
    }
}
