//! Execution providers: what ONNX Runtime computes on. Tried in the order the configuration names them; the one that took
//! the model is reported, with what was wrong with those before it. The processor is used only where it is named.

use ort::ep::{self, ExecutionProvider as _, ExecutionProviderDispatch};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Each needs an ONNX Runtime that was built with it (name it in `AERIE_ONNXRUNTIME`); aerie itself needs nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lowercase")]
pub enum Provider {
    Cpu,
    Cuda,
    TensorRt,
    OpenVino,
    MiGraphX,
    CoreMl,
    Cann,
    Rknpu,
    Qnn,
    Xnnpack,
}

/// What a model runs on, and what was tried before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chosen {
    pub provider: Provider,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refused>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    pub provider: Provider,
    pub reason: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.provider.name(), self.reason)
    }
}

impl Provider {
    /// As it stands in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Provider::Cpu => "cpu",
            Provider::Cuda => "cuda",
            Provider::TensorRt => "tensorrt",
            Provider::OpenVino => "openvino",
            Provider::MiGraphX => "migraphx",
            Provider::CoreMl => "coreml",
            Provider::Cann => "cann",
            Provider::Rknpu => "rknpu",
            Provider::Qnn => "qnn",
            Provider::Xnnpack => "xnnpack",
        }
    }

    /// Whether a graph's work is processor time; what an accelerator does meanwhile is none.
    pub fn on_processor(self) -> bool {
        matches!(self, Provider::Cpu | Provider::Xnnpack)
    }

    /// Ready to be registered; none for the processor, which is always there. The reason, where this ONNX Runtime was
    /// built without it.
    pub(super) fn dispatch(self) -> Result<Option<ExecutionProviderDispatch>, String> {
        let (built_with, dispatch) = match self {
            Provider::Cpu => return Ok(None),
            Provider::Cuda => (ep::CUDA::is_available(), ep::CUDA::default().build()),
            Provider::TensorRt => (ep::TensorRT::is_available(), ep::TensorRT::default().build()),
            Provider::OpenVino => (ep::OpenVINO::is_available(), ep::OpenVINO::default().build()),
            Provider::MiGraphX => (ep::MIGraphX::is_available(), ep::MIGraphX::default().build()),
            Provider::CoreMl => (ep::CoreML::is_available(), ep::CoreML::default().build()),
            Provider::Cann => (ep::CANN::is_available(), ep::CANN::default().build()),
            Provider::Rknpu => (ep::RKNPU::is_available(), ep::RKNPU::default().build()),
            Provider::Qnn => (ep::QNN::is_available(), ep::QNN::default().build()),
            Provider::Xnnpack => (ep::XNNPACK::is_available(), ep::XNNPACK::default().build()),
        };
        match built_with {
            Ok(true) => Ok(Some(dispatch.error_on_failure())),
            Ok(false) => {
                Err("this ONNX Runtime was built without it; name one that has it in AERIE_ONNXRUNTIME".to_owned())
            }
            Err(error) => Err(error.to_string()),
        }
    }
}
