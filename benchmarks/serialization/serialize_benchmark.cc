// What a message costs before and after its bytes cross, at 1, 150 and 10,000
// tensors, and the manifest beside protobuf alone on the same bytes.
//
//   tools/bazel run -c opt //benchmarks/serialization:serialize_benchmark
//
// items_per_second counts tensors: its inverse is the cost of one.
#include <ATen/ops/ones.h>
#include <benchmark/benchmark.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "serialization/allocate.h"
#include "serialization/deserialize.h"
#include "serialization/manifest.pb.h"
#include "serialization/serialize.h"

namespace tensorferry {
namespace {

// A model's worth of names; every third tensor is a matrix, none is large, so
// that copying does not hide what the benchmark is about.
TensorMessage MessageOf(int64_t tensors) {
  TensorMessage message;
  for (int64_t i = 0; i < tensors; ++i) {
    message.tensors.push_back(i % 3 == 0 ? at::ones({8, 8}) : at::ones({8}));
    message.names.push_back(
        absl::StrCat("encoder.layer.", i, ".attention.weight"));
  }
  return message;
}

void Count(benchmark::State& state) {
  state.SetItemsProcessed(state.iterations() * state.range(0));
}

void BM_Serialize(benchmark::State& state) {
  TensorMessage message = MessageOf(state.range(0));
  for (auto _ : state) {
    auto sent = Serialize(message, {});
    if (!sent.ok()) return state.SkipWithError("Serialize failed");
    benchmark::DoNotOptimize(sent);
  }
  Count(state);
}

void BM_Allocate(benchmark::State& state) {
  auto sent = Serialize(MessageOf(state.range(0)), {});
  for (auto _ : state) {
    auto buffers = Allocate(sent->manifest(), {});
    if (!buffers.ok()) return state.SkipWithError("Allocate failed");
    benchmark::DoNotOptimize(buffers);
  }
  Count(state);
}

void BM_Deserialize(benchmark::State& state) {
  auto sent = Serialize(MessageOf(state.range(0)), {});
  for (auto _ : state) {
    state.PauseTiming();
    auto buffers = Allocate(sent->manifest(), {});
    state.ResumeTiming();
    auto message = Deserialize(*std::move(buffers));
    if (!message.ok()) return state.SkipWithError("Deserialize failed");
    benchmark::DoNotOptimize(message);
    state.PauseTiming();
    message->tensors.clear();
    state.ResumeTiming();
  }
  Count(state);
}

// Encode plus decode, with all of decode's checks.
void BM_Manifest(benchmark::State& state) {
  auto sent = Serialize(MessageOf(state.range(0)), {});
  std::string bytes;
  for (auto _ : state) {
    bytes = EncodeManifest(sent->manifest());
    auto manifest = DecodeManifest(bytes, Limits());
    if (!manifest.ok()) return state.SkipWithError("DecodeManifest failed");
    benchmark::DoNotOptimize(manifest);
  }
  state.SetBytesProcessed(state.iterations() * bytes.size());
  Count(state);
}

// Protobuf alone writing and reading the same bytes: no columns are filled,
// nothing is checked.
void BM_ProtobufAlone(benchmark::State& state) {
  auto sent = Serialize(MessageOf(state.range(0)), {});
  wire::v1::Manifest full;
  full.ParseFromString(EncodeManifest(sent->manifest()));
  std::string bytes;
  for (auto _ : state) {
    full.SerializeToString(&bytes);
    wire::v1::Manifest read;
    if (!read.ParseFromString(bytes)) return state.SkipWithError("no parse");
    benchmark::DoNotOptimize(read);
  }
  state.SetBytesProcessed(state.iterations() * bytes.size());
  Count(state);
}

BENCHMARK(BM_Serialize)->Arg(1)->Arg(150)->Arg(10000);
BENCHMARK(BM_Allocate)->Arg(1)->Arg(150)->Arg(10000);
BENCHMARK(BM_Deserialize)->Arg(1)->Arg(150)->Arg(10000);
BENCHMARK(BM_Manifest)->Arg(1)->Arg(150)->Arg(10000);
BENCHMARK(BM_ProtobufAlone)->Arg(1)->Arg(150)->Arg(10000);

}  // namespace
}  // namespace tensorferry

BENCHMARK_MAIN();
