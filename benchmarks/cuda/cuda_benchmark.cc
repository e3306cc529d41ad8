// From cuda:0 of this process to cuda:0, or the host, of a second one; see
// BUILD.bazel for how to run it.
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "benchmarks/cuda/bare_tensorpipe.h"
#include "session/blocking.h"
#include "session/peer.h"
#include "tests/testing/child_process.h"

namespace tensorferry::benchmarks {
namespace {

constexpr int kMessagesInTurn = 5;  // after one that does not count

at::Tensor BytesOn(bool host, uint64_t nbytes) {
  return at::full({static_cast<int64_t>(nbytes)}, 1,
                  at::TensorOptions().dtype(at::kByte).device(
                      host ? at::Device(at::kCPU) : at::Device(at::kCUDA, 0)));
}

template <class T>
T Checked(absl::StatusOr<T> result) {
  if (result.ok()) return *std::move(result);
  std::fprintf(stderr, "%s\n", result.status().ToString().c_str());
  std::exit(1);
}

// ---- the receiving process

// Tensors that messages of a size go into, again and again.
class Destinations {
 public:
  at::Tensor For(bool host, uint64_t nbytes) {
    at::Tensor& tensor = tensors_[{host, nbytes}];
    if (!tensor.defined()) tensor = BytesOn(host, nbytes);
    return tensor;
  }
  Memory MemoryFor(bool host, uint64_t nbytes) {
    return {For(host, nbytes).data_ptr(), nbytes, host};
  }

 private:
  std::map<std::pair<bool, uint64_t>, at::Tensor> tensors_;
};

// Receives messages whose type is the number of their size in KiB.
void ReceiveAgain(const std::shared_ptr<Session>& session, bool host,
                  uint32_t kibibytes, const at::Tensor& into) {
  session->Receive({.filter = {.type = kibibytes}, .into = {{into}, {"bytes"}}},
                   [=](absl::StatusOr<Received> received) {
                     if (received.ok())
                       ReceiveAgain(session, host, kibibytes, into);
                   });
}

int Receive(bool host, uint64_t most) {
  Destinations destinations;
  auto peer = Checked(Peer::Create({.name = "receiver"}));
  peer->Accept([&](std::shared_ptr<Session> session) {
    for (uint64_t nbytes = 1 << 16; nbytes <= most; nbytes *= 16) {
      ReceiveAgain(session, host, static_cast<uint32_t>(nbytes >> 10),
                   BytesOn(host, nbytes));
    }
    session->OnEnd([session](SessionReport) {});
  });
  BareTensorpipe ipc("cuda_ipc"), basic("cuda_basic");
  auto fill = [&](bool to_host, uint64_t nbytes) {
    return destinations.MemoryFor(to_host, nbytes);
  };
  for (uint64_t nbytes = 1 << 16; nbytes <= most; nbytes *= 16) {
    destinations.For(host, nbytes);
  }
  testing::WriteLine(peer->control_address());
  testing::WriteLine(ipc.Accept(fill));
  testing::WriteLine(basic.Accept(fill));
  testing::AwaitInputClosed();
  return 0;
}

// ---- the sending process

struct Contestant {
  std::string name;
  std::function<void(const at::Tensor&)> send;
  std::vector<double> medians;  // microseconds, of the turns
};

double Median(std::vector<double> values) {
  auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

void TakeATurn(Contestant& contestant, const at::Tensor& tensor) {
  std::vector<double> times;
  for (int i = 0; i <= kMessagesInTurn; ++i) {
    const absl::Time start = absl::Now();
    contestant.send(tensor);
    if (i > 0) times.push_back(absl::ToDoubleMicroseconds(absl::Now() - start));
  }
  contestant.medians.push_back(Median(std::move(times)));
}

std::shared_ptr<Session> Connect(Peer& peer, const std::string& address,
                                 const std::string& path, bool to_host) {
  Offer offer;
  offer.to_callee.rules = {
      Checked(ParsePlacementRule(to_host ? "cuda:0=cpu" : "cuda:0=cuda:0"))};
  offer.paths = {"unix/basic", path};
  return Checked(
      blocking::Connect(peer, address, std::move(offer), absl::Seconds(30)));
}

// Within this process: what no transfer can beat.
void CopyWithin(const at::Tensor& from, const at::Tensor& to) {
  const c10::cuda::CUDAStream stream = c10::cuda::getCurrentCUDAStream(0);
  cudaMemcpyAsync(to.data_ptr(), from.data_ptr(), from.nbytes(),
                  cudaMemcpyDefault, stream);
  cudaStreamSynchronize(stream);
}

void Run(bool to_host, int rounds, uint64_t most) {
  auto child = Checked(testing::ChildProcess::Start(
      {to_host ? "--receive_on_host" : "--receive", absl::StrCat(most)}));
  const std::string control = Checked(child.ReadLine());
  BareTensorpipe ipc("cuda_ipc"), basic("cuda_basic");
  ipc.Connect(Checked(child.ReadLine()));
  basic.Connect(Checked(child.ReadLine()));
  auto peer = Checked(Peer::Create({.name = "sender", .control = ""}));
  auto over = [&](const std::string& path) {
    return [session = Connect(*peer, control, path, to_host)](
               const at::Tensor& tensor) {
      Checked(blocking::Send(
          *session, {.type = static_cast<uint32_t>(tensor.nbytes() >> 10),
                     .tensors = {tensor},
                     .names = {"bytes"}}));
    };
  };
  auto bare = [&](BareTensorpipe& pipe) {
    return [&pipe, to_host](const at::Tensor& tensor) {
      pipe.Send({tensor.data_ptr(), tensor.nbytes(), false}, to_host);
    };
  };
  std::vector<Contestant> contestants;
  if (!to_host) {
    contestants.push_back({"tensorpipe cuda_ipc", bare(ipc), {}});
    contestants.push_back({"session cuda_ipc", over("unix/cuda_ipc"), {}});
  }
  contestants.push_back({"tensorpipe cuda_basic", bare(basic), {}});
  contestants.push_back({"session cuda_basic", over("unix/cuda_basic"), {}});
  contestants.push_back({"session through host", over("unix/local"), {}});
  for (uint64_t nbytes = 1 << 16; nbytes <= most; nbytes *= 16) {
    const at::Tensor tensor = BytesOn(/*host=*/false, nbytes);
    at::Tensor copy = BytesOn(to_host, nbytes);
    if (to_host) copy = copy.pin_memory();
    std::vector<Contestant> now = contestants;
    now.push_back({"copy in one process",
                   [&](const at::Tensor& from) { CopyWithin(from, copy); },
                   {}});
    for (int round = 0; round < rounds; ++round) {
      std::rotate(now.begin(), now.begin() + 1, now.end());
      for (Contestant& contestant : now) TakeATurn(contestant, tensor);
    }
    for (const Contestant& contestant : now) {
      const double time = Median(contestant.medians);
      std::printf("cuda:0 to %-6s %8llu KiB  %-22s %10.1f us %8.2f GB/s\n",
                  to_host ? "cpu" : "cuda:0",
                  static_cast<unsigned long long>(nbytes >> 10),
                  contestant.name.c_str(), time,
                  static_cast<double>(nbytes) / time / 1e3);
    }
    std::fflush(stdout);
  }
  child.CloseInput();
  child.Wait();
}

}  // namespace
}  // namespace tensorferry::benchmarks

int main(int argc, char** argv) {
  using tensorferry::benchmarks::Receive;
  using tensorferry::benchmarks::Run;
  const std::string mode = argc > 1 ? argv[1] : "";
  int rounds = 7;
  uint64_t most = uint64_t{1} << 28;
  if (mode == "--receive" || mode == "--receive_on_host") {
    if (!absl::SimpleAtoi(argv[2], &most)) return 2;
    return Receive(mode == "--receive_on_host", most);
  }
  for (int i = 1; i < argc; ++i) {
    absl::string_view argument = argv[i];
    const bool good = absl::ConsumePrefix(&argument, "--rounds=")
                          ? absl::SimpleAtoi(argument, &rounds)
                      : absl::ConsumePrefix(&argument, "--most=")
                          ? absl::SimpleAtoi(argument, &most)
                          : false;
    if (!good) {
      std::fprintf(stderr,
                   "usage: cuda_benchmark [--rounds=N] [--most=BYTES]\n");
      return 2;
    }
  }
  Run(/*to_host=*/false, rounds, most);
  Run(/*to_host=*/true, rounds, most);
}
