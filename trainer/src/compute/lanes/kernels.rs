//! The two inner loops of [`super::correlate`], once per width of vectors: sums of weight × vector, and
//! sums of products of vectors.
#![allow(unsafe_code)]

use super::batch::LANES;

/// What invalid columns of [`Kernels::products`] read.
static ZEROS: [f32; LANES] = [0.0; LANES];

/// A tap of a class of output positions, in one of the input's channels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tap {
    /// From an output position's place in the input's first channel, in values.
    pub(super) input: isize,
    /// Where its weights for a tile's rows begin, in values.
    pub(super) weight: usize,
}

/// Most vectors that one tile computes for each row.
const MOST_COLUMNS: usize = 8;
/// Most taps of [`Kernels::dots`].
pub(super) const MOST_TAPS: usize = 5;
/// Most rows of one tile.
pub(super) const MOST_ROWS: usize = 6;

/// The output vectors of a tile: where their input begins and where they are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Columns {
    input: [isize; MOST_COLUMNS],
    output: [usize; MOST_COLUMNS],
    used: usize,
}

impl Columns {
    /// One or more (input, output) places, in values.
    pub(super) fn new(places: &[(isize, usize)]) -> Self {
        let at = |index: usize| places[index.min(places.len() - 1)];
        Self {
            input: std::array::from_fn(|index| at(index).0),
            output: std::array::from_fn(|index| at(index).1),
            used: places.len(),
        }
    }
}

/// An output that several threads write disjoint parts of.
#[derive(Clone, Copy)]
pub(super) struct Target(*mut f32);

// SAFETY: whoever writes through it promises that no two threads write the same place.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

impl Target {
    pub(super) fn new(output: &mut [f32]) -> Self {
        Self(output.as_mut_ptr())
    }

    /// The place `offset` values behind the start.
    ///
    /// # Safety
    /// It lies inside.
    pub(super) unsafe fn at(self, offset: usize) -> *mut f32 {
        // SAFETY: by this function's contract
        unsafe { self.0.add(offset) }
    }

    /// Writes or adds one value.
    ///
    /// # Safety
    /// `offset` lies inside, and no other thread uses it.
    pub(super) unsafe fn put(self, offset: usize, value: f32, accumulate: bool) {
        // SAFETY: by this function's contract
        unsafe {
            let place = self.0.add(offset);
            *place = if accumulate { *place + value } else { value };
        }
    }
}

/// (pointer, offset of each column), the columns that count, and the places to sum over.
type Fours = [usize; 4];

macro_rules! family {
    ($name:ident, $(#[$feature:meta])? $width:literal, $vector:ty, $zero:ident, $load:ident, $store:ident, $set:ident, $fma:ident,
     $reduce:ident, $rows:literal, $columns:literal, $left:literal) => {
        mod $name {
            #[allow(unused_imports, clippy::wildcard_imports)]
            use super::*;
            #[cfg(target_arch = "x86_64")]
            #[allow(unused_imports, clippy::wildcard_imports)]
            use std::arch::x86_64::*;

            pub(super) const WIDTH: usize = $width;
            pub(super) const ROWS: usize = $rows;
            pub(super) const COLUMNS: usize = $columns;
            pub(super) const LEFT: usize = $left;

            /// # Safety
            /// As [`Kernels::sum`]; the CPU has the features.
            $(#[$feature])?
            pub(super) unsafe fn sum<const ROWS: usize, const COLUMNS: usize>(
                taps: &[Tap],
                weights: *const f32,
                bias: Option<&[f32]>,
                gathered: *const f32,
                columns: &Columns,
                (output, row_stride, rows): (*mut f32, usize, usize),
            ) {
                // SAFETY: the caller's promise bounds every read and write
                unsafe {
                    let mut sums = [[$zero(); COLUMNS]; ROWS];
                    match bias {
                        Some(bias) => {
                            for row in 0..ROWS {
                                sums[row] = [$set(bias[row]); COLUMNS];
                            }
                        }
                        None => {
                            for row in 0..ROWS {
                                // rows that do not count sum up what nobody reads
                                let row_start = output.add(row.min(rows - 1) * row_stride);
                                for column in 0..COLUMNS {
                                    sums[row][column] = $load(row_start.add(columns.output[column]));
                                }
                            }
                        }
                    }
                    let mut from = gathered;
                    for tap in taps {
                        let weights = weights.add(tap.weight);
                        let mut vectors = [$zero(); COLUMNS];
                        for column in 0..COLUMNS {
                            vectors[column] = $load(from.add(column * WIDTH));
                        }
                        from = from.add(COLUMNS * WIDTH);
                        for row in 0..ROWS {
                            let weight = $set(*weights.add(row));
                            for column in 0..COLUMNS {
                                sums[row][column] = $fma(weight, vectors[column], sums[row][column]);
                            }
                        }
                    }
                    for row in 0..ROWS {
                        if row < rows {
                            for column in 0..COLUMNS {
                                if column < columns.used {
                                    $store(output.add(row * row_stride + columns.output[column]), sums[row][column]);
                                }
                            }
                        }
                    }
                }
            }

            /// # Safety
            /// As [`Kernels::gather`]; the CPU has the features.
            $(#[$feature])?
            pub(super) unsafe fn gather<const COLUMNS: usize>(
                taps: &[Tap],
                input: *const f32,
                columns: &Columns,
                gathered: *mut f32,
            ) {
                let from: [*const f32; COLUMNS] =
                    std::array::from_fn(|column| input.wrapping_offset(columns.input[column]));
                for (index, tap) in taps.iter().enumerate() {
                    for column in 0..COLUMNS {
                        // SAFETY: the caller's promise
                        unsafe {
                            let vector = $load(from[column].wrapping_offset(tap.input));
                            $store(gathered.add((index * COLUMNS + column) * WIDTH), vector);
                        }
                    }
                }
            }

            type Add = unsafe fn(
                &mut [[$vector; 4]; LEFT],
                *const f32,
                usize,
                [*const f32; 4],
                [isize; 4],
                &[(usize, isize)],
            );

            /// Adds the products at all places, for columns FIRST to END. With RUN, the four columns follow each other:
            /// one pointer leads to them.
            ///
            /// # Safety
            /// As [`Kernels::products`] for LEFT rows; the CPU has the features.
            $(#[$feature])?
            #[inline(never)]
            unsafe fn add<const RUN: bool, const FIRST: usize, const END: usize>(
                kept: &mut [[$vector; 4]; LEFT],
                left: *const f32,
                row_stride: usize,
                right: [*const f32; 4],
                moves: [isize; 4],
                places: &[(usize, isize)],
            ) {
                let mut sums = *kept;
                for (left_at, right_at) in places {
                    // SAFETY: by this function's contract
                    unsafe {
                        let left = left.add(*left_at);
                        for part in (0..LANES).step_by(WIDTH) {
                            let mut others = [$zero(); LEFT];
                            for row in 0..LEFT {
                                others[row] = $load(left.add(part + row * row_stride));
                            }
                            for column in FIRST..END {
                                let from = if RUN {
                                    right[0].wrapping_offset(right_at + (column * LANES) as isize)
                                } else {
                                    right[column].wrapping_offset(right_at & moves[column])
                                };
                                let vector = $load(from.wrapping_add(part));
                                for row in 0..LEFT {
                                    sums[row][column] = $fma(others[row], vector, sums[row][column]);
                                }
                            }
                        }
                    }
                }
                *kept = sums;
            }

            /// # Safety
            /// As [`Kernels::run`] for COLUMNS vectors; the CPU has the features.
            #[inline(always)]
            unsafe fn columns<const COLUMNS: usize>(
                taps: &[(isize, f32)],
                (from, step_in): (*const f32, isize),
                (to, step_out): (*mut f32, isize),
                bias: Option<f32>,
            ) {
                for part in (0..LANES).step_by(WIDTH) {
                    let (from, to) = (from.wrapping_add(part), to.wrapping_add(part));
                    // SAFETY: by this function's contract
                    unsafe {
                        let mut sums = [$set(bias.unwrap_or(0.0)); COLUMNS];
                        if bias.is_none() {
                            for column in 0..COLUMNS {
                                sums[column] = $load(to.wrapping_offset(step_out * column as isize));
                            }
                        }
                        for (offset, factor) in taps {
                            let (from, factor) = (from.wrapping_offset(*offset), $set(*factor));
                            for column in 0..COLUMNS {
                                let vector = $load(from.wrapping_offset(step_in * column as isize));
                                sums[column] = $fma(factor, vector, sums[column]);
                            }
                        }
                        for column in 0..COLUMNS {
                            $store(to.wrapping_offset(step_out * column as isize), sums[column]);
                        }
                    }
                }
            }

            /// # Safety
            /// As [`Kernels::run`]; the CPU has the features.
            $(#[$feature])?
            pub(super) unsafe fn run(
                taps: &[(isize, f32)],
                (from, step_in): (*const f32, isize),
                (to, step_out): (*mut f32, isize),
                count: usize,
                bias: Option<f32>,
            ) {
                let mut at = 0;
                while at < count {
                    let from = (from.wrapping_offset(step_in * at as isize), step_in);
                    let to = (to.wrapping_offset(step_out * at as isize), step_out);
                    // SAFETY: by this function's contract
                    unsafe {
                        at += match count - at {
                            8.. => {
                                columns::<8>(taps, from, to, bias);
                                8
                            }
                            4.. => {
                                columns::<4>(taps, from, to, bias);
                                4
                            }
                            2.. => {
                                columns::<2>(taps, from, to, bias);
                                2
                            }
                            _ => {
                                columns::<1>(taps, from, to, bias);
                                1
                            }
                        };
                    }
                }
            }

            /// # Safety
            /// As [`Kernels::dots`] for TAPS taps; the CPU has the features.
            $(#[$feature])?
            pub(super) unsafe fn dots<const TAPS: usize>(
                (left, right, step): (*const f32, *const f32, isize),
                count: usize,
                sums: &mut [[f32; LANES]],
            ) {
                for part in (0..LANES).step_by(WIDTH) {
                    let (left, right) = (left.wrapping_add(part), right.wrapping_add(part));
                    // SAFETY: by this function's contract; `sums` has LANES values of each tap
                    unsafe {
                        // two sets, so that sums do not wait for each other
                        let mut even = [$zero(); TAPS];
                        let mut odd = [$zero(); TAPS];
                        for tap in 0..TAPS {
                            even[tap] = $load(sums[tap].as_ptr().add(part));
                        }
                        for pair in 0..count / 2 {
                            let left = left.add(2 * pair * LANES);
                            let right = right.wrapping_offset(step * 2 * pair as isize);
                            let (first, second) = ($load(left), $load(left.add(LANES)));
                            for tap in 0..TAPS {
                                let right = right.wrapping_add(tap * LANES);
                                even[tap] = $fma(first, $load(right), even[tap]);
                                odd[tap] = $fma(second, $load(right.wrapping_offset(step)), odd[tap]);
                            }
                        }
                        if count % 2 == 1 {
                            let left = $load(left.add((count - 1) * LANES));
                            let right = right.wrapping_offset(step * (count - 1) as isize);
                            for tap in 0..TAPS {
                                even[tap] = $fma(left, $load(right.wrapping_add(tap * LANES)), even[tap]);
                            }
                        }
                        for tap in 0..TAPS {
                            let both = $fma($set(1.0), odd[tap], even[tap]);
                            $store(sums[tap].as_mut_ptr().add(part), both);
                        }
                    }
                }
            }

            /// # Safety
            /// As [`Kernels::products`]; the CPU has the features.
            $(#[$feature])?
            pub(super) unsafe fn products<'a>(
                (left, row_stride): (*const f32, usize),
                (right, columns): (*const f32, Fours),
                segments: impl Iterator<Item = ([bool; 4], &'a [(usize, isize)])>,
            ) -> [[f32; 4]; MOST_ROWS] {
                let mut sums = [[$zero(); 4]; LEFT];
                let follow = (1..4).all(|column| columns[column] == columns[0] + column * LANES);
                for (inside, places) in segments {
                    let base: [*const f32; 4] = std::array::from_fn(|column| {
                        if inside[column] { right.wrapping_add(columns[column]) } else { ZEROS.as_ptr() }
                    });
                    // a column outside reads the same zeros at every place
                    let moves = inside.map(|inside| if inside { -1 } else { 0 });
                    let run = [right.wrapping_add(columns[0]); 4];
                    // called through a pointer: where the four loops become one function, their sums share registers
                    // so badly that the fastest moves most of them at every place
                    let (add, columns): (Add, _) = match inside {
                        [true, true, true, true] if follow => (add::<true, 0, 4>, run),
                        // at the edges of a picture that has one zero around it
                        [false, true, true, true] if follow => (add::<true, 1, 4>, run),
                        [true, true, true, false] if follow => (add::<true, 0, 3>, run),
                        _ => (add::<false, 0, 4>, base),
                    };
                    // SAFETY: by this function's contract
                    unsafe { add(&mut sums, left, row_stride, columns, moves, places) };
                }
                let mut out = [[0f32; 4]; MOST_ROWS];
                for row in 0..LEFT {
                    out[row] = $reduce(sums[row]);
                }
                out
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
family!(
    wide,
    #[target_feature(enable = "avx512f,avx2,fma")]
    16,
    __m512,
    _mm512_setzero_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_set1_ps,
    _mm512_fmadd_ps,
    reduce_wide,
    6,
    4,
    4
);
#[cfg(target_arch = "x86_64")]
family!(
    narrow,
    #[target_feature(enable = "avx2,fma")]
    8,
    __m256,
    _mm256_setzero_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_set1_ps,
    _mm256_fmadd_ps,
    reduce_narrow,
    6,
    2,
    3
);
family!(portable, 16, [f32; 16], zero, load, store, set, fma, reduce, 6, 1, 2);

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn reduce_narrow(vectors: [std::arch::x86_64::__m256; 4]) -> [f32; 4] {
    use std::arch::x86_64::*;
    let [a, b, c, d] = vectors;
    // each half holds half of the four sums
    let halves = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    let sums = _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps::<1>(halves));
    let mut out = [0f32; 4];
    // SAFETY: `out` holds four values
    unsafe { _mm_storeu_ps(out.as_mut_ptr(), sums) };
    out
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
fn reduce_wide(vectors: [std::arch::x86_64::__m512; 4]) -> [f32; 4] {
    use std::arch::x86_64::*;
    let halves = vectors.map(|vector| {
        let upper = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(vector)));
        _mm256_add_ps(_mm512_castps512_ps256(vector), upper)
    });
    reduce_narrow(halves)
}

#[inline(always)]
fn zero() -> [f32; LANES] {
    [0.0; LANES]
}

#[inline(always)]
unsafe fn load(from: *const f32) -> [f32; LANES] {
    // SAFETY: the caller's promise
    unsafe { from.cast::<[f32; LANES]>().read_unaligned() }
}

#[inline(always)]
unsafe fn store(to: *mut f32, vector: [f32; LANES]) {
    // SAFETY: the caller's promise
    unsafe { to.cast::<[f32; LANES]>().write_unaligned(vector) }
}

#[inline(always)]
fn set(value: f32) -> [f32; LANES] {
    [value; LANES]
}

#[inline(always)]
fn fma(a: [f32; LANES], b: [f32; LANES], c: [f32; LANES]) -> [f32; LANES] {
    std::array::from_fn(|lane| {
        if cfg!(any(target_feature = "fma", target_arch = "aarch64")) {
            a[lane].mul_add(b[lane], c[lane])
        } else {
            a[lane] * b[lane] + c[lane]
        }
    })
}

#[inline(always)]
fn reduce(vectors: [[f32; LANES]; 4]) -> [f32; 4] {
    vectors.map(|vector| vector.iter().sum())
}

/// How many outputs [`Kernels::sum`] computes at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile {
    /// Output channels.
    pub(super) rows: usize,
    /// Vectors of each.
    pub(super) columns: usize,
    flat: bool,
}

/// The vectors that the loops run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kernels {
    /// AVX-512.
    #[cfg(target_arch = "x86_64")]
    Wide,
    /// AVX2 with FMA.
    #[cfg(target_arch = "x86_64")]
    Narrow,
    /// What the compiler makes of arrays.
    Portable,
}

impl Kernels {
    /// All that this CPU has, the fastest first.
    pub(super) fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let narrow = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        #[cfg(target_arch = "x86_64")]
        let vectors = [
            (narrow && is_x86_feature_detected!("avx512f")).then_some(Self::Wide),
            narrow.then_some(Self::Narrow),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let vectors = [None; 0];
        vectors.into_iter().flatten().chain([Self::Portable])
    }

    /// The fastest.
    pub(super) fn detect() -> Self {
        Self::available().next().unwrap_or(Self::Portable)
    }

    /// The tile of [`Self::sum`] for so many outputs: where they are few, more columns stand for rows.
    pub(super) fn tile(self, outputs: usize) -> Tile {
        let (rows, columns) = match self {
            #[cfg(target_arch = "x86_64")]
            Self::Wide => (wide::ROWS, wide::COLUMNS),
            #[cfg(target_arch = "x86_64")]
            Self::Narrow => (narrow::ROWS, narrow::COLUMNS),
            Self::Portable => (portable::ROWS, portable::COLUMNS),
        };
        let flat = outputs <= rows / 2;
        if flat { Tile { rows: rows / 2, columns: 2 * columns, flat } } else { Tile { rows, columns, flat } }
    }

    /// Values of a vector.
    pub(super) fn width(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Wide => wide::WIDTH,
            #[cfg(target_arch = "x86_64")]
            Self::Narrow => narrow::WIDTH,
            Self::Portable => portable::WIDTH,
        }
    }

    /// Offsets of the vectors that make up the lanes of a group.
    pub(super) fn parts(self) -> impl Iterator<Item = usize> + Clone {
        (0..LANES).step_by(self.width())
    }

    /// Rows of a tile of [`Self::products`].
    pub(super) fn gradient_rows(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Wide => wide::LEFT,
            #[cfg(target_arch = "x86_64")]
            Self::Narrow => narrow::LEFT,
            Self::Portable => portable::LEFT,
        }
    }

    /// gathered[tap][column] = input[column.input + tap.input], for whole vectors: what [`Self::sum`] reads, one
    /// behind the other. Where it lies in a batch, the channels' planes are often a power of two apart, and a
    /// first-level cache keeps few of them.
    ///
    /// # Safety
    /// Every such place lies inside what `input` points to, and `gathered` holds them all.
    pub(super) unsafe fn gather(
        self,
        tile: Tile,
        taps: &[Tap],
        input: *const f32,
        columns: &Columns,
        gathered: &mut [f32],
    ) {
        assert!(gathered.len() >= taps.len() * tile.columns * self.width(), "too few places");
        let to = gathered.as_mut_ptr();
        // SAFETY: by this function's contract; `available` found the features
        unsafe {
            match (self, tile.flat) {
                #[cfg(target_arch = "x86_64")]
                (Self::Wide, false) => wide::gather::<4>(taps, input, columns, to),
                #[cfg(target_arch = "x86_64")]
                (Self::Wide, true) => wide::gather::<8>(taps, input, columns, to),
                #[cfg(target_arch = "x86_64")]
                (Self::Narrow, false) => narrow::gather::<2>(taps, input, columns, to),
                #[cfg(target_arch = "x86_64")]
                (Self::Narrow, true) => narrow::gather::<4>(taps, input, columns, to),
                (Self::Portable, false) => portable::gather::<1>(taps, input, columns, to),
                (Self::Portable, true) => portable::gather::<2>(taps, input, columns, to),
            }
        }
    }

    /// output[row · stride + column.output] = bias[row] + Σ_tap weights[tap.weight + row] · gathered[tap][column], for
    /// whole vectors and the rows and columns of `tile`; without a bias the sums are added to what is there.
    ///
    /// # Safety
    /// Every such place lies inside what the pointers point to, and no other thread uses the outputs.
    pub(super) unsafe fn sum(
        self,
        tile: Tile,
        (taps, weights): (&[Tap], *const f32),
        bias: Option<&[f32]>,
        gathered: &[f32],
        columns: &Columns,
        output: (*mut f32, usize, usize),
    ) {
        assert!(gathered.len() >= taps.len() * tile.columns * self.width(), "too few places");
        let from = gathered.as_ptr();
        // SAFETY: by this function's contract; `available` found the features
        unsafe {
            match (self, tile.flat) {
                #[cfg(target_arch = "x86_64")]
                (Self::Wide, false) => wide::sum::<6, 4>(taps, weights, bias, from, columns, output),
                #[cfg(target_arch = "x86_64")]
                (Self::Wide, true) => wide::sum::<3, 8>(taps, weights, bias, from, columns, output),
                #[cfg(target_arch = "x86_64")]
                (Self::Narrow, false) => narrow::sum::<6, 2>(taps, weights, bias, from, columns, output),
                #[cfg(target_arch = "x86_64")]
                (Self::Narrow, true) => narrow::sum::<3, 4>(taps, weights, bias, from, columns, output),
                (Self::Portable, false) => portable::sum::<6, 1>(taps, weights, bias, from, columns, output),
                (Self::Portable, true) => portable::sum::<3, 2>(taps, weights, bias, from, columns, output),
            }
        }
    }

    /// For `count` vectors, `step_in` and `step_out` values apart:
    /// output = (bias, or what is there) + Σ_tap factor · input[offset].
    ///
    /// # Safety
    /// Every such place lies inside what the pointers point to, and no other thread uses the outputs.
    pub(super) unsafe fn run(
        self,
        taps: &[(isize, f32)],
        input: (*const f32, isize),
        output: (*mut f32, isize),
        count: usize,
        bias: Option<f32>,
    ) {
        // SAFETY: by this function's contract; `available` found the features
        unsafe {
            match self {
                #[cfg(target_arch = "x86_64")]
                Self::Wide => wide::run(taps, input, output, count, bias),
                #[cfg(target_arch = "x86_64")]
                Self::Narrow => narrow::run(taps, input, output, count, bias),
                Self::Portable => portable::run(taps, input, output, count, bias),
            }
        }
    }

    /// sums[tap] += Σ left vector i · right vector (i · step + tap), lane by lane, for `count` vectors i; 1 to
    /// [`MOST_TAPS`] taps, `step` in values.
    ///
    /// # Safety
    /// Every such place lies inside what the pointers point to.
    pub(super) unsafe fn dots(
        self,
        operands: (*const f32, *const f32, isize),
        count: usize,
        sums: &mut [[f32; LANES]],
    ) {
        macro_rules! of {
            ($taps:literal) => {
                // SAFETY: by this function's contract; `available` found the features
                unsafe {
                    match self {
                        #[cfg(target_arch = "x86_64")]
                        Self::Wide => wide::dots::<$taps>(operands, count, sums),
                        #[cfg(target_arch = "x86_64")]
                        Self::Narrow => narrow::dots::<$taps>(operands, count, sums),
                        Self::Portable => portable::dots::<$taps>(operands, count, sums),
                    }
                }
            };
        }
        match sums.len() {
            1 => of!(1),
            2 => of!(2),
            3 => of!(3),
            4 => of!(4),
            MOST_TAPS => of!(5),
            other => panic!("{other} taps"),
        }
    }

    /// sums[row][column] = Σ_place Σ_lane left[row · stride + place.0 + lane] · right[column + place.1 + lane],
    /// over the places of all segments in which the column lies inside.
    ///
    /// # Safety
    /// Every such place lies inside what the pointers point to; rows are [`Self::gradient_rows`].
    pub(super) unsafe fn products<'a>(
        self,
        left: (*const f32, usize),
        right: (*const f32, Fours),
        segments: impl Iterator<Item = ([bool; 4], &'a [(usize, isize)])>,
    ) -> [[f32; 4]; MOST_ROWS] {
        // SAFETY: by this function's contract; `available` found the features
        unsafe {
            match self {
                #[cfg(target_arch = "x86_64")]
                Self::Wide => wide::products(left, right, segments),
                #[cfg(target_arch = "x86_64")]
                Self::Narrow => narrow::products(left, right, segments),
                Self::Portable => portable::products(left, right, segments),
            }
        }
    }
}
