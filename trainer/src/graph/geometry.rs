//! Convolution, transposed convolution and their gradients as one bilinear family.
//!
//! A strided convolution links a fine picture x (N, C, H, W), a coarse one y (N, O, OH, OW) and weights
//! w (O, C / groups, k, k):
//!
//! y[n,o,i,j] = Σ_{c,a,b} w[o,c,a,b] · x[n, c, i·s − p + a, j·s − p + b]
//!
//! where c runs over the channels of o's group. Fixing two of the three gives an operation that is linear in each:
//! [`Role::Coarse`] is the convolution, [`Role::Fine`] the transposed convolution (with w in PyTorch's and ONNX's
//! ConvTranspose layout (in, out / groups, k, k)), the third the weight gradient. The gradient of each is made of the
//! other two, so the family is closed under differentiation. A dense layer is the member with k = 1 on pictures of one
//! pixel.

/// Sizes of a convolution: a square kernel, and the same stride on both axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Geometry {
    /// Side of the kernel.
    pub kernel: usize,
    /// Step on the fine side.
    pub stride: usize,
    /// Zeros (above, left of) the fine side; those below and right follow from the sizes.
    pub padding: (usize, usize),
    /// Groups of channels on both sides that have no weights in common.
    pub groups: usize,
    /// (channels, height, width) of the fine side.
    pub fine: (usize, usize, usize),
    /// (channels, height, width) of the coarse side.
    pub coarse: (usize, usize, usize),
}

/// Which side is computed from the other and the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// (fine, weights) → coarse: a convolution.
    Coarse,
    /// (coarse, weights) → fine: a transposed convolution.
    Fine,
}

impl Role {
    /// The role of the gradient for the input.
    pub fn transposed(self) -> Self {
        match self {
            Self::Coarse => Self::Fine,
            Self::Fine => Self::Coarse,
        }
    }
}

impl Geometry {
    /// A dense layer.
    pub fn dense(inputs: usize, outputs: usize) -> Self {
        Self {
            kernel: 1,
            stride: 1,
            padding: (0, 0),
            groups: 1,
            fine: (inputs, 1, 1),
            coarse: (outputs, 1, 1),
        }
    }

    /// (channels, height, width) of what `role` reads.
    pub fn input(&self, role: Role) -> (usize, usize, usize) {
        match role {
            Role::Coarse => self.fine,
            Role::Fine => self.coarse,
        }
    }

    /// (channels, height, width) of what `role` computes.
    pub fn output(&self, role: Role) -> (usize, usize, usize) {
        self.input(role.transposed())
    }

    /// Values of one input channel's or output channel's kernel.
    pub fn area(&self) -> usize {
        self.kernel * self.kernel
    }

    /// Axes of the weights: (coarse channels, fine channels of a group, kernel, kernel).
    pub fn weight_dims(&self) -> [usize; 4] {
        [self.coarse.0, self.fine.0 / self.groups, self.kernel, self.kernel]
    }

    /// Values of the weights.
    pub fn weights_len(&self) -> usize {
        self.weight_dims().iter().product()
    }

    /// The convolution of one group alone.
    pub fn of_group(&self) -> Self {
        let part = |(channels, height, width): (usize, usize, usize)| (channels / self.groups, height, width);
        Self { groups: 1, fine: part(self.fine), coarse: part(self.coarse), ..*self }
    }

    /// Multiplications for one picture, those with the border's zeros counted too.
    pub fn macs(&self) -> u64 {
        (self.weights_len() * self.coarse.1 * self.coarse.2) as u64
    }
}
