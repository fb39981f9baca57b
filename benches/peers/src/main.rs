//! Median time of a run of a network in another Rust runtime, in µs, one thread: for benches/compare.py.
//!
//! `edgegen-peers tract|rten MODEL RUNS SHAPE…`: a shape for each input, such as `1,100`; inputs behind the first are
//! int64, the class.

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use rten_tensor::prelude::*;
use tract_onnx::prelude::{Framework, InferenceFact, InferenceModelExt, IntoRunnable, IntoTValue, Tensor, tvec};

const WARM_UP: usize = 50;

/// Values for an input: what is in it does not change the time.
fn noise(values: usize) -> Vec<f32> {
    (0..values).map(|i| (i * 7919 % 199) as f32 / 100.0 - 1.0).collect()
}

fn median(runs: usize, mut run: impl FnMut() -> Result<(), Box<dyn Error>>) -> Result<f64, Box<dyn Error>> {
    for _ in 0..WARM_UP {
        run()?;
    }
    let mut times = Vec::with_capacity(runs);
    for _ in 0..runs {
        let start = Instant::now();
        run()?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

fn tract(model: &str, runs: usize, shapes: &[Vec<usize>]) -> Result<f64, Box<dyn Error>> {
    let mut onnx = tract_onnx::onnx().with_ignore_value_info(true).model_for_path(model)?;
    let mut inputs = tvec![];
    for (index, shape) in shapes.iter().enumerate() {
        let tensor = match index {
            0 => Tensor::from_shape(shape, &noise(shape.iter().product()))?,
            _ => Tensor::from_shape(shape, &vec![0i64; shape.iter().product()])?,
        };
        onnx.set_input_fact(index, InferenceFact::dt_shape(tensor.datum_type(), shape))?;
        inputs.push(tensor.into_tvalue());
    }
    let mut state = onnx.into_optimized()?.into_runnable()?.spawn()?;
    median(runs, || {
        black_box(state.run(inputs.clone())?);
        Ok(())
    })
}

fn rten(model: &str, runs: usize, shapes: &[Vec<usize>]) -> Result<f64, Box<dyn Error>> {
    let model = rten::ModelOptions::with_all_ops().prepack_weights(true).load_file(model)?;
    let threads = Arc::new(rten::ThreadPool::with_num_threads(1));
    let x = rten_tensor::Tensor::from_data(&shapes[0], noise(shapes[0].iter().product()));
    let classes: Vec<rten_tensor::Tensor<i32>> =
        shapes[1..].iter().map(|shape| rten_tensor::Tensor::zeros(shape)).collect();
    let outputs = model.output_ids().to_vec();
    median(runs, || {
        let inputs = model.input_ids().iter().enumerate().map(|(index, id)| {
            let value: rten::ValueOrView = match index {
                0 => x.view().into(),
                _ => classes[index - 1].view().into(),
            };
            (*id, value)
        });
        let options = rten::RunOptions::default().with_thread_pool(Some(threads.clone()));
        black_box(model.run(inputs.collect(), &outputs, Some(options))?);
        Ok(())
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [engine, model, runs, shapes @ ..] = arguments.as_slice() else {
        return Err("edgegen-peers tract|rten MODEL RUNS SHAPE…".into());
    };
    let parse = |shape: &String| shape.split(',').map(str::parse).collect::<Result<Vec<usize>, _>>();
    let shapes = shapes.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let runs = runs.parse()?;
    let time = match engine.as_str() {
        "tract" => tract(model, runs, &shapes)?,
        "rten" => rten(model, runs, &shapes)?,
        other => return Err(format!("{other}: tract or rten").into()),
    };
    println!("{time:.2}");
    Ok(())
}
