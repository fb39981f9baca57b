//! What viewers are told of a panel that they operate, and what its host does for them.

use std::sync::Arc;

use edgegen_firmware::states::Held;
use edgegen_firmware::{Generator, State};
use serde::Serialize;

use super::{Hub, Request};
use crate::generator::Source;
use crate::live::{Control, News};

/// Opens the model in another precision.
pub type Reopen = Box<dyn Fn(&str) -> anyhow::Result<Source>>;

/// The facts of a panel's show, as JSON.
#[derive(Debug, Serialize)]
struct Status<'a> {
    panel: &'a str,
    model: &'a str,
    /// Round glass.
    round: bool,
    state: String,
    seed: u64,
    /// Names of the classes that can be chosen.
    classes: &'a [String],
    class: Option<u32>,
    /// `None` where there is no latent.
    truncation: Option<f32>,
    latent_dim: usize,
    latent: Option<&'a [f32]>,
    precisions: &'a [String],
    precision: &'a str,
}

/// A host's half of the page.
pub struct Operated {
    hub: Arc<Hub>,
    /// What the panel is.
    pub panel: String,
    /// What the model is.
    pub model: String,
    /// Whether the glass is a circle.
    pub round: bool,
    /// Quarters that what is drawn is turned, which a viewer does not see.
    pub quarters: u8,
    /// Precisions to choose from, and the one that is open.
    pub precisions: Vec<String>,
    /// The one that is open.
    pub precision: String,
    reopen: Option<Reopen>,
    replacement: Option<Source>,
}

impl Operated {
    /// Of a panel with a model; `reopen` opens it in other precisions.
    pub fn new(hub: Arc<Hub>, (panel, model): (String, String), reopen: Option<Reopen>) -> Self {
        Self {
            hub,
            panel,
            model,
            round: false,
            quarters: 0,
            precisions: Vec::new(),
            precision: String::new(),
            reopen,
            replacement: None,
        }
    }

    /// What a viewer has asked of the player.
    pub fn next_control(&mut self) -> Option<Control> {
        loop {
            match self.hub.next()? {
                Request::Control(control) => return Some(control),
                Request::Precision(precision) => self.choose(&precision),
            }
        }
    }

    fn choose(&mut self, precision: &str) {
        let Some(reopen) =
            self.reopen.as_ref().filter(|_| self.precisions.iter().any(|known| known == precision))
        else {
            self.hub.say(&format!("the model has no {precision}"));
            return;
        };
        match reopen(precision) {
            Ok(source) => {
                self.replacement = Some(source);
                precision.clone_into(&mut self.precision);
            }
            Err(error) => self.hub.say(&format!("{error:#}")),
        }
    }

    /// The model in the precision that was chosen.
    pub fn replacement(&mut self, old: &Source) -> Option<Source> {
        let mut new = self.replacement.take()?;
        if new.shape() != old.shape() {
            self.hub.say("pictures of that precision have another size");
            return None;
        }
        if let (Some(new), Some(old)) = (new.model_mut(), old.model()) {
            new.take_settings(old);
        }
        Some(new)
    }

    /// Tells viewers of a picture.
    pub fn shown(&self, news: &News<'_>) {
        let model = news.source.model();
        let network = model.map(|model| model.network());
        let conditional = network.filter(|network| network.is_conditional());
        let status = Status {
            panel: &self.panel,
            model: &self.model,
            round: self.round,
            state: in_words(news.state),
            seed: news.state.seed(),
            classes: conditional.map_or(&[], |network| network.classes()),
            class: model.and_then(|model| model.class()),
            truncation: model.map(|model| model.truncation()),
            latent_dim: news.source.latent_dim(),
            latent: model.and_then(|model| model.own_latent()),
            precisions: &self.precisions,
            precision: &self.precision,
        };
        let status = serde_json::to_string(&status).unwrap_or_default();
        let picture = news.picture.as_ref().map(|picture| picture.turned(4 - self.quarters % 4));
        self.hub.show(picture, status, news.making, news.showing);
    }

    /// Tells viewers what went wrong.
    pub fn say(&self, message: &str) {
        self.hub.say(message);
    }
}

/// What a device is doing, for people. It leaves out what changes with every picture.
fn in_words(state: State) -> String {
    match state {
        State::Idle { .. } | State::Clear { .. } => "blank".into(),
        State::Generate { seed } | State::Hold(Held::Picture { seed }) => format!("picture {seed}"),
        State::Gallery { seed, .. } | State::Hold(Held::Gallery { seed }) => format!("gallery {seed}"),
        State::Walk(leg) => format!("walk {} to {}", leg.from, leg.to),
        State::Drift(leg, _) => format!("gallery walks {} to {}", leg.from, leg.to),
        State::Hold(Held::Walk(leg) | Held::Drift(leg, _)) => {
            format!("held between {} and {}", leg.from, leg.to)
        }
    }
}
