// What a message costs before and after its bytes cross, at 1, 150 and 10,000
// tensors, and the manifest beside protobuf alone on the same bytes.
//
//   tools/bazel run -c opt //benchmarks/serialization:serialize_benchmark
//
// items_per_second counts tensors: its inverse is the cost of one. The time of
// the first three is that of 1000 tensors or one message, whichever is more.
#include <ATen/ops/empty_like.h>
#include <ATen/ops/ones.h>
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "serialization/allocate.h"
#include "serialization/deserialize.h"
#include "serialization/serialize.h"
#include "tensorferry/serialization/manifest.pb.h"

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

void Count(benchmark::State& state, int64_t messages = 1) {
  state.SetItemsProcessed(state.iterations() * messages * state.range(0));
}

// Times `step` alone: what it consumes is made before, what it returns is freed
// after, for so many messages at a time that reading the clock does not show.
template <class Make, class Step>
void Time(benchmark::State& state, Make make, Step step) {
  using Clock = std::chrono::steady_clock;
  const int64_t messages = std::max<int64_t>(1, 1000 / state.range(0));
  for (auto _ : state) {
    std::vector<decltype(make())> inputs;
    std::vector<decltype(step(make()))> results;
    inputs.reserve(messages);
    results.reserve(messages);
    for (int64_t i = 0; i < messages; ++i) inputs.push_back(make());
    Clock::time_point begin = Clock::now();
    for (auto& input : inputs) results.push_back(step(std::move(input)));
    std::chrono::duration<double> took = Clock::now() - begin;
    state.SetIterationTime(took.count());
    for (const auto& result : results) {
      if (!result.ok()) {
        return state.SkipWithError(result.status().ToString().c_str());
      }
    }
  }
  Count(state, messages);
}

void BM_Serialize(benchmark::State& state) {
  TensorMessage message = MessageOf(state.range(0));
  Time(
      state, [&] { return message; },
      [](TensorMessage copy) { return Serialize(std::move(copy), {}); });
}

void BM_Allocate(benchmark::State& state) {
  auto sent = Serialize(MessageOf(state.range(0)), {});
  Time(
      state, [&] { return sent->manifest(); },
      [](Manifest copy) { return Allocate(std::move(copy), {}); });
}

void BM_Deserialize(benchmark::State& state) {
  auto sent = Serialize(MessageOf(state.range(0)), {});
  Time(
      state, [&] { return *Allocate(sent->manifest(), {}); },
      [](ReadBuffers buffers) { return Deserialize(std::move(buffers)); });
}

// Into tensors of the receiver's, as large as what is sent.
AllocateOptions Into(const TensorMessage& like) {
  AllocateOptions options;
  for (const at::Tensor& tensor : like.tensors) {
    options.into.tensors.push_back(at::empty_like(tensor));
  }
  options.into.names = like.names;
  return options;
}

void BM_AllocateInto(benchmark::State& state) {
  TensorMessage message = MessageOf(state.range(0));
  const AllocateOptions options = Into(message);
  auto sent = Serialize(message, {});
  Time(
      state, [&] { return sent->manifest(); },
      [&](Manifest copy) { return Allocate(std::move(copy), options); });
}

void BM_DeserializeInto(benchmark::State& state) {
  TensorMessage message = MessageOf(state.range(0));
  const AllocateOptions options = Into(message);
  auto sent = Serialize(message, {});
  Time(
      state, [&] { return *Allocate(sent->manifest(), options); },
      [](ReadBuffers buffers) { return Deserialize(std::move(buffers)); });
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

BENCHMARK(BM_Serialize)->Arg(1)->Arg(150)->Arg(10000)->UseManualTime();
BENCHMARK(BM_Allocate)->Arg(1)->Arg(150)->Arg(10000)->UseManualTime();
BENCHMARK(BM_Deserialize)->Arg(1)->Arg(150)->Arg(10000)->UseManualTime();
BENCHMARK(BM_AllocateInto)->Arg(1)->Arg(150)->Arg(10000)->UseManualTime();
BENCHMARK(BM_DeserializeInto)->Arg(1)->Arg(150)->Arg(10000)->UseManualTime();
BENCHMARK(BM_Manifest)->Arg(1)->Arg(150)->Arg(10000);
BENCHMARK(BM_ProtobufAlone)->Arg(1)->Arg(150)->Arg(10000);

}  // namespace
}  // namespace tensorferry

BENCHMARK_MAIN();
