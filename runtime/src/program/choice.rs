//! Which network of which model: the arguments that all commands share.

use anyhow::{Result, bail};
use clap::Args;
use edgegen_runtime::arguments::Foreign;
use edgegen_runtime::arguments::machine;
use edgegen_runtime::generate::Generator;
use edgegen_runtime::model::{EngineChoice, Model, ModelFolder, OpenOptions, Part, Precision};
use std::path::PathBuf;

/// Which file, and what it does not say itself.
#[derive(Args)]
pub(super) struct Choice {
    /// An .onnx file or a model folder
    pub(super) model: PathBuf,
    /// Precision, of those in a model folder [default: the one in model.json]
    #[arg(long, value_name = "fp32|fp16|int8")]
    precision: Option<Precision>,
    /// What runs the network: the kernels, and tract what they do not know; or one of them alone
    #[arg(long, value_name = "auto|kernels|tract", default_value = "auto")]
    engine: EngineChoice,
    #[command(flatten)]
    foreign: Foreign,
}

/// Which class, where the network is told one.
#[derive(Args)]
pub(super) struct ClassChoice {
    /// Class of the pictures, by its name or number, where the model is told one [default: generate takes each in
    /// turn, walk the first; reconstruct needs it]
    #[arg(long = "class", value_name = "NAME|NUMBER")]
    class: Option<String>,
}

impl ClassChoice {
    /// Whether one was asked for.
    pub(super) fn is_given(&self) -> bool {
        self.class.is_some()
    }

    /// The class of each of `count` pictures: the one that was asked for, or each in turn (`in_turn`), or the
    /// first; empty if the network is told none.
    pub(super) fn of(&self, generator: &Generator, count: usize, in_turn: bool) -> Result<Vec<u32>> {
        if let Some(class) = &self.class {
            return Ok(vec![generator.class_named(class)?; count]);
        }
        if generator.is_conditional() && generator.classes().is_empty() {
            bail!(
                "the model is told each picture's class, and its file does not tell which there are: give --class"
            );
        }
        let index = |picture: usize| if in_turn { picture as u64 } else { 0 };
        Ok((0..count).filter_map(|picture| generator.class_in_turn(index(picture))).collect())
    }
}

impl Choice {
    /// A file or folder, a precision of a folder, and what a file does not say.
    pub(super) fn of(
        model: PathBuf,
        precision: Option<Precision>,
        engine: EngineChoice,
        foreign: Foreign,
    ) -> Self {
        Self { model, precision, engine, foreign }
    }

    fn options(&self, threads: usize) -> Result<OpenOptions> {
        Ok(OpenOptions { engine: self.engine, machine: machine(threads)?, ..self.foreign.options()? })
    }

    /// Opens a part of a model folder, or the file, whatever part it is. Without `part` it is the
    /// one that draws.
    pub(super) fn open(&self, part: Option<Part>) -> Result<Model> {
        self.open_on(part, 1)
    }

    /// [`Self::open`], to be run on so many threads.
    pub(super) fn open_on(&self, part: Option<Part>, threads: usize) -> Result<Model> {
        Ok(Model::open_named(&self.model, part, self.precision, &self.options(threads)?)?)
    }

    /// [`Self::open`], for pictures of a height and a width if the file leaves them open.
    pub(super) fn open_sized(
        &self,
        part: Option<Part>,
        size: Option<(usize, usize)>,
    ) -> edgegen_runtime::Result<Model> {
        let options = OpenOptions { engine: self.engine, machine: machine(1)?, ..self.foreign.options()? };
        Model::open_named(&self.model, part, self.precision, &OpenOptions { size, ..options })
    }

    /// Opens both parts of a model folder: encoder, then decoder.
    pub(super) fn open_both(&self) -> Result<(Model, Model)> {
        if !self.model.is_dir() {
            bail!(
                "{}: give a model folder; a single file cannot both encode and decode",
                self.model.display()
            );
        }
        let folder = ModelFolder::open(&self.model)?;
        let options = self.options(1)?;
        let open = |part| folder.open_part(part, self.precision, &options);
        Ok((open(Part::Encoder)?, open(Part::Decoder)?))
    }

    /// Opens the part that draws and makes it ready. One latent at a time: so a picture has the
    /// same bits however many are drawn with it.
    pub(super) fn open_generator(&self, part: Option<Part>) -> Result<Generator> {
        Ok(self.open(part)?.into_generator(1)?)
    }
}
