//! A network that is ready to run, whoever runs it.

use super::stock::{Stock, Typed};
use crate::lower::Program;

/// The reason why a graph cannot be lowered or run, on one line.
pub(crate) type Reason = String;

/// A network that is ready to run.
pub(crate) enum Network {
    /// By the kernels, row by row.
    Kernels(Box<Program>),
    /// By tract, on a fixed number of rows.
    Stock(Box<Stock>),
}

impl Network {
    /// Optimises a typed graph for this CPU and sets up its state.
    pub(super) fn stock(typed: Typed) -> std::result::Result<Self, Reason> {
        Stock::new(typed).map(|stock| Self::Stock(Box::new(stock)))
    }

    /// Runs once. `input` holds at most the bound number of rows, `row` values each, the rest is taken as 0, and so is
    /// the class of rows behind `classes`, which only a network that is told them looks at; each of `outputs` receives
    /// the first values of the network's output of that number.
    pub(crate) fn run(
        &mut self,
        input: &[f32],
        row: usize,
        classes: &[u32],
        outputs: &mut [&mut [f32]],
    ) -> std::result::Result<(), Reason> {
        let program = match self {
            Self::Stock(stock) => return stock.run(input, classes, outputs),
            Self::Kernels(program) => program,
        };
        let rows = (input.len() / row).max(1);
        for (index, input) in input.chunks_exact(row).enumerate() {
            let class = classes.get(index).copied().unwrap_or(0);
            program.check_class(class)?;
            // two outputs at most: mean and log-variance
            match outputs {
                [one] => {
                    let size = one.len() / rows;
                    program.run(input, class, &mut [&mut one[index * size..][..size]])?;
                }
                [one, other] => {
                    let (size, other_size) = (one.len() / rows, other.len() / rows);
                    let one = &mut one[index * size..][..size];
                    program.run(input, class, &mut [one, &mut other[index * other_size..][..other_size]])?;
                }
                _ => return Err("it has more outputs than two".into()),
            }
        }
        Ok(())
    }

    /// Runs one row with a call behind each step, by its number in [`Facts::steps`](super::Facts::steps); there is none
    /// if tract runs the network.
    pub(crate) fn timed(
        &mut self,
        input: &[f32],
        class: u32,
        outputs: &mut [&mut [f32]],
        after: impl FnMut(usize),
    ) -> std::result::Result<(), Reason> {
        match self {
            Self::Stock(stock) => stock.run(input, &[class], outputs),
            Self::Kernels(program) => {
                program.check_class(class)?;
                program.timed(input, class, outputs, after)
            }
        }
    }
}
