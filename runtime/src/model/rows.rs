//! Networks of any maker and any use: rows in, rows out.

use super::graph::{self, Port};
use super::network::{Network, Runner, Wanted, ready};
use super::{Metadata, OpenOptions, Opened, Spelling, limits};
use crate::{Error, Result};

/// An ONNX file that may hold any network: unlike [`Model`](super::Model) it need not be one of edgegen's parts.
pub struct AnyFile {
    name: String,
    opened: Opened,
}

impl AnyFile {
    /// Reads an ONNX file that is in memory; `name` stands for it in errors.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the bytes are not a sound ONNX model, [`Error::Unsupported`] if it is larger than
    /// [`limits::MAX_MODEL_BYTES`] or of another version of ONNX.
    pub fn from_bytes(bytes: &[u8], name: &str) -> Result<Self> {
        let opened = Opened::read(bytes.to_vec().into(), name, None)?;
        Ok(Self { name: name.to_string(), opened })
    }

    /// What the file says about itself; foreign files say little.
    pub fn metadata(&self) -> &Metadata {
        &self.opened.metadata
    }

    /// The value of a key in `metadata_props`.
    pub fn property(&self, key: &str) -> Option<&str> {
        let entry = self.opened.proto.metadata_props.iter().find(|entry| entry.key == key);
        entry.map(|entry| entry.value.as_str())
    }

    /// Names of the outputs of floats, in order.
    pub fn outputs(&self) -> Vec<String> {
        let outputs = self.opened.proto.graph.iter().flat_map(|graph| &graph.output).map(Port::of);
        outputs.filter(Port::is_floats).map(|port| port.name).collect()
    }

    /// The network from its one input to the output of this name. `suits` is told the shape of a row of the input, the
    /// sizes behind the batch, and says how many rows are to be run at once, or what is wrong with the shape. If the
    /// file fixes its batch, in its input or in a Reshape that works for one row alone, that is taken.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if there is no such output, if it needs other inputs than one of float32 whose sizes
    /// behind the batch are fixed, if `suits` says so, or if nothing runs the network.
    pub fn network(
        self,
        output: &str,
        suits: impl FnOnce(&[usize]) -> std::result::Result<usize, String>,
    ) -> Result<RowNetwork> {
        let Self { name, opened: Opened { mut proto, metadata, .. } } = self;
        let refused = |problem: String| Error::unsupported(&name, problem);
        // programs call these options --feature-output, --classifier-output, …
        let spelling = Spelling::Unnamed;
        let options = OpenOptions { output: Some(output.into()), spelling, ..OpenOptions::default() };
        let selection = graph::select(&mut proto, &options, &metadata, &name)?;
        if let Some(class) = &selection.class {
            return Err(refused(format!("its output needs {:?} beside its input", class.name)));
        }
        let port = &selection.input;
        let declared = |problem: &str| {
            refused(format!("input {:?} has shape ({}); {problem}", port.name, port.shape_text()))
        };
        let open = "the sizes behind the batch are to be fixed, and none is 0";
        let (fixed_batch, row) = port.rows().ok_or_else(|| declared(open))?;
        let suitable = suits(&row).map_err(|problem| declared(&problem))?;
        limits::check_count(fixed_batch.unwrap_or(1), row.iter().product())?;
        let wanted = Wanted {
            input: &port.name,
            row: &row,
            class: None,
            batches: &fixed_batch.map_or_else(|| vec![suitable.max(1), 1], |batch| vec![batch]),
            one_picture: false,
            mixed: false,
            halves: false,
            engine: options.engine,
            machine: options.machine,
        };
        let (ready, _) = ready(proto, &wanted).map_err(refused)?;
        let shape = ready.shapes.first().cloned().flatten();
        let shape = shape.ok_or_else(|| refused(format!("output {output:?} is not float32")))?;
        let (batch, runner) = (ready.batch, ready.runner);
        Ok(RowNetwork {
            name,
            input: row,
            output: shape.get(1..).unwrap_or_default().to_vec(),
            batch,
            runner,
        })
    }
}

/// A network that turns rows into rows, bound to a batch size. Threads share it; each runs its own [`RowRunner`].
pub struct RowNetwork {
    name: String,
    input: Vec<usize>,
    output: Vec<usize>,
    batch: usize,
    runner: Runner,
}

impl RowNetwork {
    /// Shape of a row that goes in, without the batch.
    pub fn input(&self) -> &[usize] {
        &self.input
    }

    /// Shape of a row that comes out, without the batch.
    pub fn output(&self) -> &[usize] {
        &self.output
    }

    /// Rows of one run of the network.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Makes it ready to run on one thread.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the graph cannot be lowered.
    pub fn runner(&self) -> Result<RowRunner<'_>> {
        let network = Network::again(&self.runner);
        Ok(RowRunner { owner: self, network: network.map_err(|e| Error::unsupported(&self.name, e))? })
    }
}

/// A [`RowNetwork`] that is ready to run, with the state of one thread.
pub struct RowRunner<'a> {
    owner: &'a RowNetwork,
    network: Network,
}

impl RowRunner<'_> {
    /// Runs `input`, (n, …) of [`RowNetwork::input`] with any n from 1, and fills `output`, (n, …) of
    /// [`RowNetwork::output`]. They are run in chunks of the bound batch, the last one padded: a row has the same bits
    /// wherever chunks of whole batches are cut.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the lengths fit neither a row nor each other, [`Error::Run`] if the network fails or a
    /// value is not finite.
    pub fn run(&mut self, input: &[f32], output: &mut [f32]) -> Result<()> {
        let RowNetwork { name, batch, .. } = self.owner;
        let size: usize = self.owner.input.iter().product();
        let width: usize = self.owner.output.iter().product();
        if input.is_empty() || !input.len().is_multiple_of(size) {
            let problem = format!("{} values are no rows of {size}", input.len());
            return Err(Error::invalid(format_args!("{name}: {problem}")));
        }
        let count = input.len() / size;
        if output.len() != count * width {
            let problem = format!("{} values do not hold {count} rows of {width}", output.len());
            return Err(Error::invalid(format_args!("{name}: {problem}")));
        }
        for (input, output) in input.chunks(batch * size).zip(output.chunks_mut(batch * width)) {
            self.network
                .run(input, size, &[], &mut [&mut *output])
                .map_err(|reason| Error::run(name, reason))?;
            if let Some(value) = output.iter().find(|value| !value.is_finite()) {
                let problem = format!("its output holds {value}; is its input scaled as it should be?");
                return Err(Error::run(name, problem));
            }
        }
        Ok(())
    }
}
