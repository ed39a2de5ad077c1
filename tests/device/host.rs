//! The host side of the GPU backend alone: addresses, arguments, row-major products, copies, capture and replay, and that
//! everything is given back.

use std::path::Path;

use scaledown::run::Precision;
use scaledown::trainer::TrainerError;
use scaledown::trainer::backend::cuda::CudaDevice;
use scaledown::trainer::backend::cuda::device::{Address, Device};
use scaledown::trainer::backend::cuda::pool::close_idle;
use scaledown::trainer::ops::elementwise;
use scaledown::trainer::ops::launch::{BufferIdx, Factor, Launch, Node, Product, Real, Section, View};

use crate::standins::{in_children, in_children_with, live};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn bytes_of(values: &[f32], real: Real) -> Vec<u8> {
    match real {
        Real::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        Real::Bf16 => values.iter().flat_map(|value| half::bf16::from_f32(*value).to_bits().to_le_bytes()).collect(),
    }
}

fn values_of(bytes: &[u8], real: Real) -> Vec<f32> {
    match real {
        Real::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        Real::Bf16 => bytes.chunks_exact(2).map(|b| half::bf16::from_bits(u16::from_le_bytes([b[0], b[1]])).to_f32()).collect(),
    }
}

/// Small integers: sums are exact in every type.
fn integers(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7 + seed * 13) % 11) as f32 - 5.0).collect()
}

const fn view(buffer: u32, offset: usize) -> View {
    View { buffer: BufferIdx(buffer), offset }
}

/// The context stays for the life of the process.
fn assert_all_is_given_back(folder: &Path) -> Outcome {
    assert!(close_idle() > 0, "a device that was dropped stays open");
    assert_eq!(live(folder)?, 1, "objects were not given back");
    Ok(())
}

#[test]
fn products_of_every_layout_and_type_are_row_major() -> Outcome {
    let Some(folder) = in_children("host::products_of_every_layout_and_type_are_row_major")? else { return Ok(()) };
    assert_eq!(check_all()?, Vec::<String>::new(), "nothing is told of products that the library has");
    assert_all_is_given_back(&folder)
}

/// Without an algorithm at all, without one for a bias, with one that is suggested and does not run.
#[test]
fn products_that_the_library_lacks_have_the_same_values_and_a_warning() -> Outcome {
    let ways: [&[(&str, &str)]; 3] =
        [&[("STANDIN_PRODUCTS", "none")], &[("STANDIN_PRODUCTS", "no-bias")], &[("STANDIN_PRODUCTS", "broken")]];
    let Some(folder) = in_children_with("host::products_that_the_library_lacks_have_the_same_values_and_a_warning", &ways)? else {
        return Ok(());
    };
    let warnings = check_all()?;
    let way = std::env::var("STANDIN_PRODUCTS")?;
    let how = match way.as_str() {
        "no-bias" => "(CUBLAS_STATUS_NOT_SUPPORTED): its bias is added apart",
        "none" => "(CUBLAS_STATUS_NOT_SUPPORTED): a plain kernel does it, slowly",
        _ => "(an algorithm that was suggested does not run): a plain kernel does it, slowly",
    };
    assert!(warnings.iter().any(|warning| warning.contains("the product 3 x 5 x 7") && warning.ends_with(how)), "{warnings:?}");
    assert!(way == "broken" || warnings.iter().all(|warning| warning.ends_with(how)), "{warnings:?}");
    assert_all_is_given_back(&folder)
}

/// Checks products of every layout and type on devices of both precisions; what was told of them.
fn check_all() -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let mut warnings = Vec::new();
    for (precision, factors) in [(Precision::F32, Real::F32), (Precision::Bf16, Real::Bf16)] {
        let mut device = CudaDevice::new(0, precision)?;
        for case in 0..32_usize {
            let bit = |i: usize| case >> i & 1 == 1;
            let out_real = if bit(4) { factors } else { Real::F32 };
            let has_addend = bit(3) && out_real == Real::F32;
            check(&mut device, factors, out_real, [bit(0), bit(1), bit(2), has_addend])?;
        }
        warnings.extend(device.take_warnings());
    }
    Ok(warnings)
}

/// Checks one product with a, b transposed, a bias, an addend as the flags say.
fn check(device: &mut CudaDevice, factors: Real, out_real: Real, flags: [bool; 4]) -> Outcome {
    let ([m, n, k], [is_a_transposed, is_b_transposed, has_bias, has_addend]) = ([3, 5, 7], flags);
    let (a, b, bias, addend) = (integers(m * k, 1), integers(k * n, 2), integers(n, 3), integers(m * n, 4));
    // Off by a few bytes each, so that alignments matter; but not the bias, which cuBLASLt wants aligned.
    let offset = |buffer| if buffer == 2 { 0 } else { 4 };
    let contents = [bytes_of(&a, factors), bytes_of(&b, factors), bytes_of(&bias, out_real), bytes_of(&addend, Real::F32)];
    let mut addresses = Vec::new();
    for content in &contents {
        let address = device.allocate(content.len() + 4)?;
        device.write(address.at(offset(addresses.len())), content)?;
        addresses.push(address);
    }
    addresses.push(device.allocate(m * n * out_real.bytes())?);
    let factor = |buffer, transposed| Factor { view: view(buffer, 4), transposed, real: factors };
    let product = Product {
        m,
        n,
        k,
        a: factor(0, is_a_transposed),
        b: factor(1, is_b_transposed),
        addend: has_addend.then_some(view(3, 4)),
        bias: has_bias.then_some(view(2, 0)),
        out: view(4, 0),
        out_real,
    };
    let graph = device.prepare(&[Section::serial([product])], &addresses)?;
    let mut found = vec![0; m * n * out_real.bytes()];
    device.read(addresses[4], &mut found)?;
    assert!(found.iter().all(|byte| *byte == 0), "memory is zeroed, and preparing writes nothing");
    for _ in 0..2 {
        device.run(&graph)?;
    }
    device.read(addresses[4], &mut found)?;
    let mut expected = Vec::new();
    for (row, column) in (0..m * n).map(|i| (i / n, i % n)) {
        let a_at = |i: usize| if is_a_transposed { a[i * m + row] } else { a[row * k + i] };
        let b_at = |i: usize| if is_b_transposed { b[column * k + i] } else { b[i * n + column] };
        let sum: f32 = (0..k).map(|i| a_at(i) * b_at(i)).sum();
        let (bias, addend) = (if has_bias { bias[column] } else { 0.0 }, if has_addend { addend[row * n + column] } else { 0.0 });
        expected.push(sum + bias + addend);
    }
    assert_eq!(values_of(&found, out_real), expected, "{factors:?} to {out_real:?}, {flags:?}");
    addresses.into_iter().for_each(|address| device.free(address));
    Ok(())
}

#[test]
fn a_recording_replays_in_order_on_what_is_in_memory_then() -> Outcome {
    let Some(folder) = in_children("host::a_recording_replays_in_order_on_what_is_in_memory_then")? else { return Ok(()) };
    let mut device = CudaDevice::new(0, Precision::F32)?;
    assert_eq!((device.name(), device.real()), ("Stand-in", Real::F32));
    // More than the ring of page-locked buffers holds, and no multiple of one.
    let bytes = (40 << 20) + 3;
    let (from, to) = (device.allocate(bytes)?, device.allocate(bytes)?);
    let nodes = [
        Node::Copy { from: view(0, 1), to: view(1, 0), bytes: bytes - 1 },
        Node::Zero { view: view(1, 2), bytes: 3 },
        Node::Zero { view: view(1, 8), bytes: 4 },
        Node::Zero { view: view(1, 0), bytes: 0 },
    ];
    let graph = device.prepare(&[Section::serial(nodes)], &[from, to])?;
    for round in 1..3_usize {
        let mut sent: Vec<u8> = (0..bytes).map(|i| (i * round % 251) as u8).collect();
        device.write(from, &sent)?;
        let mut expected = sent[1..].to_vec();
        sent.fill(0);
        expected[2..5].fill(0);
        expected[8..12].fill(0);
        device.run(&graph)?;
        let mut found = vec![0; bytes - 1];
        device.read(to, &mut found)?;
        assert!(found == expected, "round {round}");
    }
    let empty = device.prepare(&[], &[])?;
    device.run(&empty)?;
    device.synchronize()?;
    drop(device);
    // Recordings may outlive their device; nothing but they is left.
    drop((graph, empty));
    assert_all_is_given_back(&folder)?;
    Ok(())
}

#[test]
fn branches_fork_and_join_and_a_failure_in_one_leaves_the_device_usable() -> Outcome {
    let Some(folder) = in_children("host::branches_fork_and_join_and_a_failure_in_one_leaves_the_device_usable")? else {
        return Ok(());
    };
    let mut device = CudaDevice::new(0, Precision::F32)?;
    let addresses = (0..4).map(|_| device.allocate(64)).collect::<Result<Vec<_>, _>>()?;
    let copy = |from, to| Node::Copy { from: view(from, 0), to: view(to, 0), bytes: 64 };
    let sections = |last: Vec<Node>| {
        [
            Section { branches: vec![vec![copy(0, 1)], vec![copy(0, 2)], vec![]] },
            Section::serial([copy(1, 3)]),
            Section { branches: vec![last, vec![Node::Zero { view: view(3, 32), bytes: 32 }]] },
        ]
    };
    // The driver refuses a launch without blocks, here in the middle of a capture.
    let refused = Launch { grid: [0, 1, 1], ..elementwise::cuda::cast(4, view(1, 0), view(2, 0)) };
    let outcome = device.prepare(&sections(vec![refused.into()]), &addresses).and_then(|graph| device.run(&graph));
    assert!(matches!(outcome, Err(TrainerError::Cuda { .. })), "{outcome:?}");
    let graph = device.prepare(&sections(vec![copy(1, 2)]), &addresses)?;
    for round in 1..3_u8 {
        device.write(addresses[0], &[round; 64])?;
        device.run(&graph)?;
        let mut found = [[0; 64]; 2];
        device.read(addresses[2], &mut found[0])?;
        device.read(addresses[3], &mut found[1])?;
        assert_eq!(found[0], [round; 64]);
        assert_eq!((&found[1][..32], &found[1][32..]), (&[round; 32][..], &[0; 32][..]));
    }
    drop(device);
    drop(graph);
    assert_all_is_given_back(&folder)?;
    Ok(())
}

#[test]
fn what_cannot_be_done_is_a_typed_error_and_the_device_goes_on() -> Outcome {
    let Some(_) = in_children("host::what_cannot_be_done_is_a_typed_error_and_the_device_goes_on")? else { return Ok(()) };
    assert!(matches!(CudaDevice::new(1, Precision::F32), Err(TrainerError::NoCuda { reason, .. }) if reason.contains("GPU 1")));
    let mut device = CudaDevice::new(0, Precision::Bf16)?;
    let available = device.available_bytes();
    match device.allocate(1 << 30) {
        Err(TrainerError::DeviceMemory { asked, held, available: free, planned: None }) => {
            assert_eq!((asked, held, free), (1 << 30, 32 << 20, available));
        }
        other => panic!("{other:?}"),
    }
    let at: Address = device.allocate(64)?;
    let factor = Factor::plain(view(0, 0), Real::F32);
    let product =
        Product { m: 2, n: 2, k: 2, a: factor, b: factor, addend: None, bias: None, out: view(0, 0), out_real: Real::Bf16 };
    assert!(matches!(device.prepare(&[Section::serial([product])], &[at]), Err(TrainerError::Cuda { .. })));
    let kernel = elementwise::cuda::cast(4, view(0, 0), view(0, 16));
    let unknown = Launch { kernel: "missing", ..kernel.clone() };
    assert!(device.prepare(&[Section::serial([unknown])], &[at]).is_err());
    let wide = Launch { threads: 2048, ..kernel.clone() };
    match device.prepare(&[Section::serial([wide])], &[at]) {
        Err(TrainerError::Cuda { operation, .. }) => assert!(operation.contains("cast"), "{operation}"),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("a block of 2048 threads was accepted"),
    }
    device.write(at, &bytes_of(&[1.0, 2.0, 3.0, 4.0], Real::F32))?;
    let graph = device.prepare(&[Section::serial([kernel])], &[at])?;
    device.run(&graph)?;
    let mut found = [0; 8];
    device.read(at.at(16), &mut found)?;
    assert_eq!(values_of(&found, Real::Bf16), [1.0, 2.0, 3.0, 4.0]);
    Ok(())
}

#[test]
fn a_device_stays_open_between_its_users_and_is_closed_where_memory_is_short() -> Outcome {
    let Some(folder) = in_children("host::a_device_stays_open_between_its_users_and_is_closed_where_memory_is_short")? else {
        return Ok(());
    };
    let cast = elementwise::cuda::cast(4, view(0, 0), view(0, 16));
    let use_once = |precision| -> Outcome {
        let mut device = CudaDevice::new(0, precision)?;
        let at = device.allocate(64)?;
        let graph = device.prepare(&[Section::serial([cast.clone()])], &[at])?;
        device.run(&graph)?;
        drop(graph);
        device.free(at);
        Ok(())
    };
    use_once(Precision::Bf16)?;
    let open = live(&folder)?;
    use_once(Precision::Bf16)?;
    assert_eq!(live(&folder)?, open, "the device that was open was used again");
    use_once(Precision::F32)?;
    assert!(live(&folder)? > open, "another precision is another device");
    // Two at a time are two; what a caller leaves allocated is freed.
    let (mut first, second) = (CudaDevice::new(0, Precision::F32)?, CudaDevice::new(0, Precision::F32)?);
    first.allocate(64)?;
    drop((first, second));
    assert_eq!(close_idle(), 3);
    assert_eq!(live(&folder)?, 1);
    // The stand-in has 512 MiB, of which an idle device holds 32: all but what the second needs is had once the first is closed.
    drop(CudaDevice::new(0, Precision::Bf16)?);
    let mut large = CudaDevice::new(0, Precision::F32)?;
    let at = large.allocate(460 << 20)?;
    assert_eq!(close_idle(), 0, "the idle device was closed for it");
    large.free(at);
    Ok(())
}
