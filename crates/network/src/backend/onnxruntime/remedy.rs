/*!
What to install where ONNX Runtime or one of its providers isn't there: PyPI's packages on a PC, and on a
Jetson those that were built for its GPU. `docs/onnxruntime.md` has the reasons.
*/

use super::super::id::{BackendId, Provider};

/// The major release of Jetson Linux: 36 is JetPack 6, 39 is JetPack 7.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct JetsonLinux(u32);

impl JetsonLinux {
    /// That of this machine; none where it is no Jetson.
    fn here() -> Option<JetsonLinux> {
        let text = std::fs::read_to_string("/etc/nv_tegra_release").ok()?;
        JetsonLinux::parse(&text)
    }

    /// Reads `# R36 (release), REVISION: 4.3, ..`.
    fn parse(text: &str) -> Option<JetsonLinux> {
        let digits = text.split_once("# R")?.1;
        let digits = digits.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok().map(JetsonLinux)
    }
}

/// What brings the library and the provider of `id` to this machine.
pub(super) fn remedy(id: BackendId) -> String {
    let BackendId::OnnxRuntime(provider) = id else {
        return String::new();
    };
    format!(
        "{}, or ORT_DYLIB_PATH names the file (docs/onnxruntime.md)",
        package(provider, JetsonLinux::here())
    )
}

/// What to know of an NVIDIA provider that makes no session on this machine; none where it is no Jetson.
pub(super) fn of_a_session(provider: Provider) -> Option<String> {
    on_a_jetson(provider, JetsonLinux::here()?)
}

/// What to know of an NVIDIA provider of which a run failed with `message`; none where it is no Jetson, and
/// where the library does have code for the GPU: then another package mends nothing.
pub(super) fn of_a_run(provider: Provider, message: &str) -> Option<String> {
    of_a_run_on(provider, message, JetsonLinux::here()?)
}

fn of_a_run_on(provider: Provider, message: &str, jetson: JetsonLinux) -> Option<String> {
    // CUDA's words for error 209. ONNX Runtime hands on nothing but the words, and nothing hangs on them
    // but this hint.
    let lacks = message.contains("no kernel image");
    lacks.then(|| on_a_jetson(provider, jetson)).flatten()
}

fn on_a_jetson(provider: Provider, jetson: JetsonLinux) -> Option<String> {
    match provider {
        Provider::Cuda(_) | Provider::TensorRt(_) => Some(package(provider, Some(jetson))),
        Provider::Cpu | Provider::OpenVino => None,
    }
}

fn package(provider: Provider, jetson: Option<JetsonLinux>) -> String {
    let text = match (provider, jetson) {
        (Provider::Cpu, _) => "`pip install onnxruntime` in an active environment brings it",
        (Provider::OpenVino, _) => {
            "`pip install onnxruntime-openvino` in an active environment brings it, for x86-64 alone"
        }
        (Provider::Cuda(_), None) => {
            "`pip install onnxruntime-gpu[cuda,cudnn]` in an active environment brings it, with \
             LD_LIBRARY_PATH leading to the libraries of CUDA and cuDNN"
        }
        (Provider::TensorRt(_), None) => {
            "`pip install onnxruntime-gpu[cuda,cudnn] tensorrt` in an active environment brings it, with \
             LD_LIBRARY_PATH leading to the libraries of CUDA, cuDNN and TensorRT"
        }
        (Provider::Cuda(_), Some(JetsonLinux(39..))) => {
            "JetPack 7 on an Orin needs a build for sm_87: onnxruntime-gpu of the Jetson AI Lab's package \
             index, or one's own with CMAKE_CUDA_ARCHITECTURES=87; PyPI's onnxruntime-gpu for aarch64 has no \
             code for an Orin's GPU"
        }
        (Provider::TensorRt(_), Some(JetsonLinux(39..))) => {
            "JetPack 7 on an Orin needs a build for sm_87 with TensorRT: onnxruntime-gpu of the Jetson AI \
             Lab's package index, or one's own with CMAKE_CUDA_ARCHITECTURES=87 and --use_tensorrt; PyPI's \
             onnxruntime-gpu for aarch64 has neither, and TensorRT itself needs libnvdla_compiler.so"
        }
        (Provider::Cuda(_) | Provider::TensorRt(_), Some(_)) => {
            "JetPack 6 needs onnxruntime-gpu of the Jetson AI Lab's package index (jp6/cu126), or a build of \
             one's own with CMAKE_CUDA_ARCHITECTURES=87; PyPI's for aarch64 wants CUDA 13 and has no code \
             for an Orin's GPU"
        }
    };
    text.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    #[rstest]
    #[case(
        "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic",
        Some(36)
    )]
    #[case("# R39 (release), REVISION: 2.0, GCID: 1", Some(39))]
    #[case("# R (release)", None)]
    #[case("Ubuntu", None)]
    fn a_release_is_read_off_its_file(#[case] text: &str, #[case] major: Option<u32>) {
        assert_eq!(JetsonLinux::parse(text), major.map(JetsonLinux));
    }

    #[rstest]
    #[case(Provider::Cpu, None, "`pip install onnxruntime`")]
    #[case(Provider::Cpu, Some(36), "`pip install onnxruntime`")]
    #[case(Provider::OpenVino, None, "onnxruntime-openvino")]
    #[case(Provider::Cuda(0), None, "`pip install onnxruntime-gpu[cuda,cudnn]`")]
    #[case(Provider::TensorRt(0), None, "tensorrt`")]
    #[case(Provider::Cuda(0), Some(36), "jp6/cu126")]
    #[case(Provider::TensorRt(0), Some(36), "jp6/cu126")]
    #[case(Provider::Cuda(0), Some(39), "CMAKE_CUDA_ARCHITECTURES=87")]
    #[case(Provider::TensorRt(0), Some(39), "libnvdla_compiler.so")]
    fn each_provider_has_its_package(
        #[case] provider: Provider,
        #[case] jetson: Option<u32>,
        #[case] words: &str,
    ) {
        let text = package(provider, jetson.map(JetsonLinux));
        assert!(text.contains(words), "{text}");
    }

    #[rstest]
    #[case::no_code(
        Provider::Cuda(0),
        "CUDA failure 209: no kernel image is available for execution on the device",
        true
    )]
    #[case::memory(Provider::Cuda(0), "CUDA failure 2: out of memory", false)]
    #[case::not_nvidia(Provider::Cpu, "no kernel image", false)]
    fn a_run_that_fails_asks_for_a_package_where_code_is_missing(
        #[case] provider: Provider,
        #[case] message: &str,
        #[case] expected: bool,
    ) {
        let found = of_a_run_on(provider, message, JetsonLinux(36));
        assert_eq!(found.is_some(), expected, "{found:?}");
    }
}
