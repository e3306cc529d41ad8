#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <string.h>

#include <cstdio>
#include <functional>
#include <iostream>
#include <map>
#include <optional>
#include <sstream>
#include <string>

#include "tests/software_gpu/fixture.h"
#include "tests/software_gpu/software_gpu.h"
#include "tests/testing/child_process.h"

namespace tensorferry::software_gpu {
namespace {

using ::tensorferry::testing::ChildProcess;
using ::testing::ElementsAre;

constexpr size_t kSize = 1000;

template <class Handle>
std::string ToHex(const Handle& handle) {
  std::string text;
  for (size_t i = 0; i < sizeof(handle); ++i) {
    char digits[3];
    snprintf(digits, sizeof(digits), "%02x",
             reinterpret_cast<const unsigned char*>(&handle)[i]);
    text += digits;
  }
  return text;
}

template <class Handle>
Handle FromHex(const std::string& text) {
  Handle handle;
  for (size_t i = 0; i < sizeof(handle); ++i) {
    reinterpret_cast<unsigned char*>(&handle)[i] = static_cast<unsigned char>(
        std::stoi(text.substr(2 * i, 2), nullptr, 16));
  }
  return handle;
}

// What either process of a test has: memory and an event that it shares with
// the other, and a stream to use them on.
struct Side {
  Side() {
    EXPECT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking),
              cudaSuccess);
    EXPECT_EQ(cudaMallocHost(&pinned, kSize), cudaSuccess);
  }
  void Make() {
    EXPECT_EQ(cudaMalloc(&memory, kSize), cudaSuccess);
    EXPECT_EQ(cudaEventCreateWithFlags(
                  &event, cudaEventDisableTiming | cudaEventInterprocess),
              cudaSuccess);
  }
  std::string Handles() {
    cudaIpcMemHandle_t memory_handle;
    cudaIpcEventHandle_t event_handle;
    EXPECT_EQ(cudaIpcGetMemHandle(&memory_handle, memory), cudaSuccess);
    EXPECT_EQ(cudaIpcGetEventHandle(&event_handle, event), cudaSuccess);
    return ToHex(memory_handle) + " " + ToHex(event_handle);
  }
  std::string Open(const std::string& handles) {
    const size_t space = handles.find(' ');
    const cudaError_t error = cudaIpcOpenMemHandle(
        &memory, FromHex<cudaIpcMemHandle_t>(handles.substr(0, space)),
        cudaIpcMemLazyEnablePeerAccess);
    if (error != cudaSuccess) return cudaGetErrorName(error);
    return cudaGetErrorName(cudaIpcOpenEventHandle(
        &event, FromHex<cudaIpcEventHandle_t>(handles.substr(space + 1))));
  }
  cudaError_t Write(char value) {
    return cudaMemsetAsync(memory, value, kSize, stream);
  }
  cudaError_t Read() {
    return cudaMemcpyAsync(pinned, memory, kSize, cudaMemcpyDeviceToHost,
                           stream);
  }
  cudaError_t Record() { return cudaEventRecord(event, stream); }
  cudaError_t Wait() { return cudaStreamWaitEvent(stream, event, 0); }
  cudaError_t Synchronize() { return cudaStreamSynchronize(stream); }

  cudaStream_t stream = nullptr;
  cudaEvent_t event = nullptr;
  void* memory = nullptr;
  void* pinned = nullptr;
};

// The other process: does what the lines say that it is sent, each answered by
// one.
int RunChild() {
  Side side;
  const std::map<std::string, std::function<cudaError_t()>> actions = {
      {"write", [&] { return side.Write('c'); }},
      {"read", [&] { return side.Read(); }},
      {"record", [&] { return side.Record(); }},
      {"wait", [&] { return side.Wait(); }},
      {"synchronize", [&] { return side.Synchronize(); }},
      {"hold",
       [&] {
         Hold(side.stream);
         return cudaSuccess;
       }},
      {"close", [&] { return cudaIpcCloseMemHandle(side.memory); }},
  };
  for (std::string line; std::getline(std::cin, line);) {
    std::string answer;
    if (line == "make") {
      side.Make();
      answer = side.Handles();
    } else if (line.rfind("open ", 0) == 0) {
      answer = side.Open(line.substr(5));
    } else if (line == "first byte") {
      answer = std::string(1, *static_cast<char*>(side.pinned));
    } else if (line == "findings") {
      answer = std::to_string(TakeFindings().size());
    } else {
      answer = cudaGetErrorName(actions.at(line)());
    }
    tensorferry::testing::WriteLine(answer);
  }
  return 0;
}

class IpcTest : public SoftwareGpuTest {
 protected:
  void SetUp() override {
    SoftwareGpuTest::SetUp();
    side_.emplace();
    auto child = ChildProcess::Start({"--child"});
    ASSERT_TRUE(child.ok()) << child.status();
    child_.emplace(*std::move(child));
  }
  void TearDown() override {
    child_.reset();
    EXPECT_EQ(cudaStreamDestroy(side_->stream), cudaSuccess);
    EXPECT_EQ(cudaFreeHost(side_->pinned), cudaSuccess);
    SoftwareGpuTest::TearDown();
  }

  // We make what is shared, the child opens it.
  void Share() {
    side_->Make();
    EXPECT_EQ(Child("open " + side_->Handles()), "cudaSuccess");
  }
  void Unshare() {
    EXPECT_EQ(Child("close"), "cudaSuccess");
    EXPECT_EQ(cudaFree(side_->memory), cudaSuccess);
    EXPECT_EQ(cudaEventDestroy(side_->event), cudaSuccess);
  }
  std::string Child(const std::string& line) {
    EXPECT_TRUE(child_->WriteLine(line).ok());
    return child_->ReadLine().value_or("the child is gone");
  }

  std::optional<Side> side_;
  std::optional<ChildProcess> child_;
};

TEST_F(IpcTest, AnEventOrdersTheWorkOfTwoProcesses) {
  Share();
  EXPECT_EQ(side_->Write('p'), cudaSuccess);
  EXPECT_EQ(side_->Record(), cudaSuccess);
  EXPECT_EQ(Child("wait"), "cudaSuccess");
  EXPECT_EQ(Child("read"), "cudaSuccess");
  EXPECT_EQ(Child("record"), "cudaSuccess");
  EXPECT_EQ(side_->Wait(), cudaSuccess);
  EXPECT_EQ(side_->Write('q'), cudaSuccess);
  EXPECT_EQ(side_->Synchronize(), cudaSuccess);
  EXPECT_EQ(Child("synchronize"), "cudaSuccess");
  EXPECT_EQ(Child("first byte"), "p");
  EXPECT_EQ(Child("findings"), "0");
  Unshare();
}

TEST_F(IpcTest, WhoDoesNotWaitForTheOtherProcessRaces) {
  Share();
  EXPECT_EQ(side_->Write('p'), cudaSuccess);
  EXPECT_EQ(side_->Record(), cudaSuccess);
  EXPECT_EQ(Child("read"), "cudaSuccess");
  EXPECT_EQ(Child("findings"), "1");
  EXPECT_EQ(Child("record"), "cudaSuccess");
  EXPECT_EQ(side_->Write('q'), cudaSuccess);
  EXPECT_THAT(TakeKinds(), ElementsAre(Finding::Kind::kRace));
  Unshare();
}

TEST_F(IpcTest, WhatCameBeforeTheMemoryWasSharedIsSeen) {
  side_->Make();
  EXPECT_EQ(side_->Write('p'), cudaSuccess);
  EXPECT_EQ(Child("open " + side_->Handles()), "cudaSuccess");
  EXPECT_EQ(Child("read"), "cudaSuccess");
  EXPECT_EQ(Child("findings"), "1");
  Unshare();
}

TEST_F(IpcTest, AHostThatWaitedAndTellsTheOtherOrders) {
  Share();
  EXPECT_EQ(side_->Write('p'), cudaSuccess);
  EXPECT_EQ(side_->Synchronize(), cudaSuccess);
  EXPECT_EQ(Child("read"), "cudaSuccess");
  EXPECT_EQ(Child("findings"), "0");
  EXPECT_EQ(Child("synchronize"), "cudaSuccess");
  EXPECT_EQ(Child("first byte"), "p");
  Unshare();
}

TEST_F(IpcTest, WaitingForAPeerThatDiesIsAnErrorOfThatWaitOnly) {
  EXPECT_EQ(side_->Open(Child("make")), "cudaSuccess");
  EXPECT_EQ(Child("hold"), "cudaSuccess");
  EXPECT_EQ(Child("write"), "cudaSuccess");
  EXPECT_EQ(Child("record"), "cudaSuccess");
  EXPECT_EQ(side_->Wait(), cudaSuccess);
  EXPECT_EQ(side_->Read(), cudaSuccess);
  EXPECT_EQ(cudaStreamQuery(side_->stream), cudaErrorNotReady);
  EXPECT_EQ(cudaEventQuery(side_->event), cudaErrorNotReady);
  child_->Signal(SIGKILL);
  EXPECT_EQ(side_->Synchronize(), cudaErrorContextIsDestroyed);
  EXPECT_EQ(cudaEventSynchronize(side_->event), cudaErrorContextIsDestroyed);
  EXPECT_EQ(side_->Synchronize(), cudaSuccess);
  EXPECT_EQ(cudaIpcCloseMemHandle(side_->memory), cudaSuccess);
  EXPECT_EQ(cudaEventDestroy(side_->event), cudaSuccess);
}

TEST_F(IpcTest, HandlesOfTheDeadAndOfNobodyOpenNothing) {
  const std::string handles = Child("make");
  child_->Signal(SIGKILL);
  child_->Wait();
  EXPECT_EQ(side_->Open(handles), "cudaErrorMapBufferObjectFailed");
  EXPECT_EQ(side_->Open(std::string(128, '0') + " " + std::string(128, '0')),
            "cudaErrorInvalidResourceHandle");
}

TEST_F(IpcTest, AProcessCannotOpenItsOwn) {
  Share();
  Side other;
  EXPECT_EQ(other.Open(side_->Handles()), "cudaErrorInvalidResourceHandle");
  EXPECT_EQ(cudaFreeHost(other.pinned), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(other.stream), cudaSuccess);
  Unshare();
}

TEST_F(IpcTest, MemoryThatItsOwnerFreedIsNotUsed) {
  Share();
  EXPECT_EQ(cudaFree(side_->memory), cudaSuccess);
  EXPECT_EQ(Child("read"), "cudaErrorInvalidValue");
  EXPECT_EQ(Child("findings"), "1");
  EXPECT_EQ(Child("close"), "cudaSuccess");
  EXPECT_EQ(cudaEventDestroy(side_->event), cudaSuccess);
}

TEST_F(IpcTest, MemoryIsClosedAsOftenAsItWasOpened) {
  const std::string handles = Child("make");
  const auto before = LiveResources();
  EXPECT_EQ(side_->Open(handles), "cudaSuccess");
  void* const first = side_->memory;
  EXPECT_EQ(cudaEventDestroy(side_->event), cudaSuccess);
  EXPECT_EQ(side_->Open(handles), "cudaSuccess");
  EXPECT_EQ(cudaEventDestroy(side_->event), cudaSuccess);
  EXPECT_EQ(side_->memory, first);
  EXPECT_EQ(cudaIpcCloseMemHandle(first), cudaSuccess);
  ASSERT_EQ(LiveResources().size(), before.size() + 1);
  EXPECT_EQ(LiveResources().rbegin()->second,
            "1000 bytes of another process, opened on device 0");
  EXPECT_EQ(cudaIpcCloseMemHandle(first), cudaSuccess);
  EXPECT_EQ(LiveResources(), before);
  EXPECT_EQ(cudaIpcCloseMemHandle(first), cudaErrorInvalidValue);
  EXPECT_THAT(TakeKinds(), ElementsAre(Finding::Kind::kInvalidFree));
}

}  // namespace
}  // namespace tensorferry::software_gpu

int main(int argc, char** argv) {
  if (argc > 1 && std::string(argv[1]) == "--child") {
    return tensorferry::software_gpu::RunChild();
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
