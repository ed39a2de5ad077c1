//! Both losses on image-text pairs and the one on two views of images, with the whole matrix of logits.
//!
//! CLIP's symmetric contrastive loss, s = scale image textᵀ: loss = (mean over rows of (log-sum-exp of the row - diagonal) + the same over columns) / 2.
//! ds = (softmax of the row + softmax of the column - 2 on the diagonal) / 2B; dimage = scale ds text; dtext = scale dsᵀ image;
//! the gradient of ln(scale) is sum ds s.
//!
//! `SigLIP`'s sigmoid loss, x = scale image textᵀ + bias, z = 1 on the diagonal and -1 elsewhere: loss = -sum(ln sigmoid(z x)) / B;
//! dx = -z sigmoid(-z x) / B; dimage = scale dx text; dtext = scale dxᵀ image; the gradient of ln(scale) is sum dx (x - bias), that
//! of the bias sum dx.
//!
//! **Source** Radford et al. 2021, figure 3; Zhai et al. 2023, equation 1.

use crate::reference::{Matrix, dot};

/// The loss and its gradients.
#[derive(Debug, Clone)]
pub struct Loss {
    /// Nats.
    pub value: f64,
    /// By the image features [B, E].
    pub grad_image: Matrix,
    /// By the text features [B, E].
    pub grad_text: Matrix,
    /// By the log of the scale.
    pub grad_log_scale: f64,
    /// 0 where the loss has no bias.
    pub grad_bias: f64,
}

/// CLIP's loss of features [B, E].
pub fn loss(image: &Matrix, text: &Matrix, scale: f64) -> Loss {
    let batch = image.rows;
    let logits = image.times_transposed(text).map(|cosine| scale * cosine);
    let (rows, columns) = (softmax(&logits), softmax(&logits.transposed()));
    let mut value = 0.0;
    let mut ds = Matrix::zeros(batch, batch);
    for i in 0..batch {
        value += rows.1[i] + columns.1[i] - 2.0 * logits.row(i)[i];
        for j in 0..batch {
            let target = if i == j { 2.0 } else { 0.0 };
            ds.row_mut(i)[j] = (rows.0.row(i)[j] + columns.0.row(j)[i] - target) / (2 * batch) as f64;
        }
    }
    Loss {
        value: value / (2 * batch) as f64,
        grad_image: ds.times(text).map(|grad| grad * scale),
        grad_text: ds.transposed_times(image).map(|grad| grad * scale),
        grad_log_scale: dot(&ds.values, &logits.values),
        grad_bias: 0.0,
    }
}

/// `SigLIP`'s loss of features [B, E].
pub fn sigmoid(image: &Matrix, text: &Matrix, scale: f64, bias: f64) -> Loss {
    let batch = image.rows;
    let scaled = image.times_transposed(text).map(|cosine| scale * cosine);
    let mut value = 0.0;
    let mut dx = Matrix::zeros(batch, batch);
    for i in 0..batch {
        for j in 0..batch {
            let sign = if i == j { 1.0 } else { -1.0 };
            let margin = sign * (scaled.row(i)[j] + bias);
            // -ln sigmoid(margin) and its slope, without an overflow on either side.
            value += (-margin).max(0.0) + (-margin.abs()).exp().ln_1p();
            dx.row_mut(i)[j] = -sign / (1.0 + margin.exp()) / batch as f64;
        }
    }
    Loss {
        value: value / batch as f64,
        grad_image: dx.times(text).map(|grad| grad * scale),
        grad_text: dx.transposed_times(image).map(|grad| grad * scale),
        grad_log_scale: dot(&dx.values, &scaled.values),
        grad_bias: dx.values.iter().sum(),
    }
}

/// NT-Xent's loss of two views of the same images, and its gradients.
#[derive(Debug, Clone)]
pub struct Pair {
    /// Nats.
    pub value: f64,
    /// By the rows of each view [B, E], before normalisation.
    pub grads: [Matrix; 2],
}

/// NT-Xent of rows a and b [B, E] in its form over all 2B rows z: s = z zᵀ / temperature without the diagonal; loss = mean of
/// (log-sum-exp of the row - s of the other view); ds = (softmax of the row - 1 at the other view) / 2B, dz = (ds + dsᵀ) z /
/// temperature, and through z = x / |x|: dx = (dz - z (z . dz)) / |x|.
///
/// **Source** Chen et al. 2020, "A simple framework for contrastive learning of visual representations", equation 1.
pub fn nt_xent(a: &Matrix, b: &Matrix, temperature: f64) -> Pair {
    let (batch, width) = (a.rows, a.columns);
    let x = Matrix::from_rows(width, [&a.values[..], &b.values[..]].concat());
    let lengths: Vec<f64> = (0..2 * batch).map(|i| dot(x.row(i), x.row(i)).sqrt().max(1e-12)).collect();
    let mut z = x;
    for (i, length) in lengths.iter().enumerate() {
        z.row_mut(i).iter_mut().for_each(|x| *x /= length);
    }
    let mut logits = z.times_transposed(&z).map(|cosine| cosine / temperature);
    for i in 0..2 * batch {
        logits.row_mut(i)[i] = f64::NEG_INFINITY;
    }
    let (mut ds, log_sums) = softmax(&logits);
    let mut value = 0.0;
    for (i, log_sum) in log_sums.iter().enumerate() {
        let other = (i + batch) % (2 * batch);
        value += log_sum - logits.row(i)[other];
        ds.row_mut(i)[other] -= 1.0;
    }
    let share = 1.0 / (2 * batch) as f64;
    let mut grad = ds.plus(&ds.transposed()).times(&z).map(|grad| grad * share / temperature);
    for (i, length) in lengths.iter().enumerate() {
        let along = dot(z.row(i), grad.row(i));
        for (grad, z) in grad.row_mut(i).iter_mut().zip(z.row(i)) {
            *grad = (*grad - z * along) / length;
        }
    }
    let half = |first: usize| Matrix::from_rows(width, grad.values[first * width..(first + batch) * width].to_vec());
    Pair { value: value * share, grads: [half(0), half(batch)] }
}

/// Softmax of each row, and each row's log-sum-exp.
fn softmax(logits: &Matrix) -> (Matrix, Vec<f64>) {
    let mut shares = logits.clone();
    let mut log_sums = Vec::new();
    for row in 0..logits.rows {
        let largest = logits.row(row).iter().fold(f64::NEG_INFINITY, |largest, logit| largest.max(*logit));
        let log_sum = largest + logits.row(row).iter().map(|logit| (logit - largest).exp()).sum::<f64>().ln();
        shares.row_mut(row).iter_mut().for_each(|logit| *logit = (*logit - log_sum).exp());
        log_sums.push(log_sum);
    }
    (shares, log_sums)
}
