#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>

#include "tests/software_gpu/fixture.h"
#include "tests/software_gpu/software_gpu.h"

extern "C" int cublasCreate_v2(void** handle);

namespace tensorferry::software_gpu {
namespace {

using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

constexpr std::chrono::seconds kPatience(30);

class FailureTest : public SoftwareGpuTest {
 protected:
  void SetUp() override {
    SoftwareGpuTest::SetUp();
    used_ = MemoryUsed(0);
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking),
              cudaSuccess);
  }
  void TearDown() override {
    ClearFailures();
    EXPECT_EQ(cudaStreamDestroy(stream_), cudaSuccess);
    SoftwareGpuTest::TearDown();
  }
  cudaStream_t stream_ = nullptr;
  size_t used_ = 0;
};

TEST_F(FailureTest, TheNthCallFailsAndNoOther) {
  FailCall("cudaMalloc", 2, cudaErrorMemoryAllocation);
  void* first = nullptr;
  void* second = nullptr;
  EXPECT_EQ(cudaMalloc(&first, 10), cudaSuccess);
  EXPECT_EQ(cudaMalloc(&second, 10), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaPeekAtLastError(), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  EXPECT_EQ(cudaMalloc(&second, 10), cudaSuccess);
  EXPECT_EQ(cudaFree(first), cudaSuccess);
  EXPECT_EQ(cudaFree(second), cudaSuccess);
}

TEST_F(FailureTest, ACallThatIsHeldBeginsWhenItIsReleased) {
  HoldCalls("cudaMalloc");
  void* memory = nullptr;
  std::thread caller([&] { EXPECT_EQ(cudaMalloc(&memory, 10), cudaSuccess); });
  const auto patience = std::chrono::steady_clock::now() + kPatience;
  while (HeldCalls() == 0 && std::chrono::steady_clock::now() < patience) {
    std::this_thread::yield();
  }
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  EXPECT_EQ(MemoryUsed(0), used_);
  ReleaseCalls();
  caller.join();
  EXPECT_EQ(HeldCalls(), 0);
  EXPECT_GT(MemoryUsed(0), used_);
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
}

TEST_F(FailureTest, AnAsynchronousErrorComesWhenItsTurnHasComeAndStays) {
  FailDevice(stream_, cudaErrorECCUncorrectable);
  cudaEvent_t event = nullptr;
  EXPECT_EQ(cudaEventCreate(&event), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaErrorECCUncorrectable);
  EXPECT_EQ(cudaEventRecord(event, stream_), cudaErrorECCUncorrectable);
  void* p = nullptr;
  EXPECT_EQ(cudaMalloc(&p, 10), cudaErrorECCUncorrectable);
  EXPECT_STREQ(cudaGetErrorName(cudaErrorECCUncorrectable),
               "cudaErrorECCUncorrectable");
  ClearFailures();
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
}

TEST_F(FailureTest, AFailureThatWasClearedIsNotHandedOn) {
  cudaEvent_t event = nullptr;
  cudaStream_t other = nullptr;
  EXPECT_EQ(cudaEventCreate(&event), cudaSuccess);
  EXPECT_EQ(cudaStreamCreate(&other), cudaSuccess);
  FailDevice(stream_, cudaErrorECCUncorrectable);
  EXPECT_EQ(cudaEventRecord(event, stream_), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaErrorECCUncorrectable);
  ClearFailures();
  EXPECT_EQ(cudaStreamQuery(stream_), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(other, event, 0), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(other), cudaSuccess);
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(other), cudaSuccess);
}

TEST_F(FailureTest, AnotherDeviceGoesOnWorking) {
  FailDevice(stream_, cudaErrorECCUncorrectable);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorECCUncorrectable);
  EXPECT_EQ(cudaSetDevice(1), cudaSuccess);
  void* p = nullptr;
  EXPECT_EQ(cudaMalloc(&p, 10), cudaSuccess);
  EXPECT_EQ(cudaMemset(p, 0, 10), cudaSuccess);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_EQ(cudaFree(p), cudaSuccess);
  EXPECT_EQ(cudaSetDevice(0), cudaSuccess);
}

TEST_F(FailureTest, OnAFailedDeviceCallbacksAreToldAndHostFunctionsNotCalled) {
  Hold(stream_);
  FailDevice(stream_, cudaErrorECCUncorrectable);
  cudaError_t status = cudaSuccess;
  bool called = false;
  EXPECT_EQ(cudaStreamAddCallback(
                stream_,
                [](cudaStream_t, cudaError_t error, void* status) {
                  *static_cast<cudaError_t*>(status) = error;
                },
                &status, 0),
            cudaSuccess);
  EXPECT_EQ(
      cudaLaunchHostFunc(
          stream_, [](void* called) { *static_cast<bool*>(called) = true; },
          &called),
      cudaSuccess);
  Release(stream_);
  while (Pending(stream_) > 0) std::this_thread::yield();
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaErrorECCUncorrectable);
  EXPECT_EQ(status, cudaErrorECCUncorrectable);
  EXPECT_FALSE(called);
}

TEST_F(FailureTest, PeerAccessIsAsTheTestSays) {
  int possible = 0;
  EXPECT_EQ(cudaDeviceCanAccessPeer(&possible, 0, 1), cudaSuccess);
  EXPECT_TRUE(possible);
  EXPECT_EQ(cudaDeviceEnablePeerAccess(1, 0), cudaSuccess);
  EXPECT_EQ(cudaDeviceEnablePeerAccess(1, 0),
            cudaErrorPeerAccessAlreadyEnabled);
  SetPeerAccess(false);
  EXPECT_EQ(cudaDeviceCanAccessPeer(&possible, 0, 1), cudaSuccess);
  EXPECT_FALSE(possible);
  SetPeerAccess(true);
}

TEST_F(FailureTest, AKernelNeedsAccessToTheMemoryOfAPeer) {
  EXPECT_EQ(cudaSetDevice(1), cudaSuccess);
  void* p = nullptr;
  EXPECT_EQ(cudaMalloc(&p, 10), cudaSuccess);
  cudaStream_t stream = nullptr;
  EXPECT_EQ(cudaStreamCreate(&stream), cudaSuccess);
  EXPECT_EQ(cudaSetDevice(0), cudaSuccess);
  void* of_peer = nullptr;
  EXPECT_EQ(cudaMalloc(&of_peer, 10), cudaSuccess);
  EXPECT_EQ(Launch(stream, "far", [] {}, {{of_peer, 10}}, {}), cudaSuccess);
  EXPECT_THAT(TakeKinds(), ElementsAre(Finding::Kind::kPeerAccess));
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorIllegalAddress);
  ClearFailures();
  EXPECT_EQ(cudaSetDevice(1), cudaSuccess);
  EXPECT_EQ(cudaDeviceEnablePeerAccess(0, 0), cudaSuccess);
  EXPECT_EQ(Launch(stream, "far", [] {}, {{of_peer, 10}}, {}), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(cudaFree(p), cudaSuccess);
  EXPECT_EQ(cudaFree(of_peer), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
}

TEST_F(FailureTest, CallsAreCountedAlsoThoseThatFail) {
  TakeCalls();
  FailCall("cudaStreamQuery", 1, cudaErrorUnknown);
  EXPECT_EQ(cudaStreamQuery(stream_), cudaErrorUnknown);
  EXPECT_EQ(cudaStreamQuery(stream_), cudaSuccess);
  EXPECT_THAT(TakeCalls(), ElementsAre(Pair("cudaStreamQuery", 2)));
  EXPECT_THAT(TakeCalls(), IsEmpty());
}

TEST_F(FailureTest, ACallOfAStubIsFound) {
  void* handle = nullptr;
  EXPECT_NE(cublasCreate_v2(&handle), 0);
  EXPECT_THAT(
      TakeFindings(),
      ElementsAre(Field(&Finding::text,
                        HasSubstr("cublasCreate_v2 of libcublas.so.13"))));
}

TEST_F(FailureTest, DevicesThatAreNotThereCannotBeUsed) {
  int count = 0;
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaSuccess);
  EXPECT_EQ(count, 2);
  EXPECT_EQ(cudaSetDevice(2), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaSetDevice(-1), cudaErrorInvalidDevice);
  cudaDeviceProp properties;
  EXPECT_EQ(cudaGetDeviceProperties(&properties, 2), cudaErrorInvalidDevice);
}

// Of a function that a process runs which was forked off before it used CUDA.
int ExitCodeOf(const std::function<void()>& body) {
  const pid_t child = fork();
  if (child == 0) {
    body();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST_F(FailureTest, CudaDoesNotWorkInAForkOfAProcessThatUsedIt) {
  EXPECT_EQ(ExitCodeOf([] {
              void* p = nullptr;
              _exit(cudaMalloc(&p, 10) == cudaErrorInitializationError ? 7 : 0);
            }),
            7);
}

// What a process with these variables sees, in its own words.
std::string DevicesWith(const char* variables) {
  const std::string command = std::string("env ") + variables + " " +
                              std::string(program_invocation_name) +
                              " --list_devices";
  FILE* output = popen(command.c_str(), "r");
  std::string text;
  for (int c; (c = fgetc(output)) != EOF;) text += static_cast<char>(c);
  pclose(output);
  return text;
}

TEST_F(FailureTest, VisibleDevicesAreThoseOfTheEnvironment) {
  const std::string first = "GPU-736f6674-6770-752e-2e2e-2e2e2e2e2e00;";
  const std::string second = "GPU-736f6674-6770-752e-2e2e-2e2e2e2e2e01;";
  EXPECT_EQ(DevicesWith("A=b"), first + second);
  EXPECT_EQ(DevicesWith("SOFTWARE_GPU_DEVICES=3"),
            first + second + "GPU-736f6674-6770-752e-2e2e-2e2e2e2e2e02;");
  EXPECT_EQ(DevicesWith("CUDA_VISIBLE_DEVICES=1"), second);
  EXPECT_EQ(DevicesWith("CUDA_VISIBLE_DEVICES=1,0,7,1"), second + first);
  EXPECT_EQ(DevicesWith("CUDA_VISIBLE_DEVICES=GPU-736f6674-6770-752e-2e2e-"
                        "2e2e2e2e2e01"),
            second);
  EXPECT_EQ(DevicesWith("CUDA_VISIBLE_DEVICES="), "cudaErrorNoDevice");
  EXPECT_EQ(DevicesWith("SOFTWARE_GPU_DEVICES=0"), "cudaErrorNoDevice");
  EXPECT_EQ(DevicesWith("SOFTWARE_GPU_HOST=abc CUDA_VISIBLE_DEVICES=0"),
            "GPU-736f6674-6770-7561-6263-2e2e2e2e2e00;");
}

void ListDevices() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) printf("%s", cudaGetErrorName(error));
  for (int device = 0; device < count; ++device) {
    cudaDeviceProp properties;
    cudaGetDeviceProperties(&properties, device);
    printf("GPU");
    for (int i = 0; i < 16; ++i) {
      if (i == 0 || i == 4 || i == 6 || i == 8 || i == 10) printf("-");
      printf("%02x", properties.uuid.bytes[i] & 0xff);
    }
    printf(";");
  }
}

}  // namespace
}  // namespace tensorferry::software_gpu

int main(int argc, char** argv) {
  if (argc > 1 && std::string(argv[1]) == "--list_devices") {
    tensorferry::software_gpu::ListDevices();
    return 0;
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
