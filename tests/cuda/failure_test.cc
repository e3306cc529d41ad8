// Operations between devices that do not end well: cancelled, or with a peer
// that dies, in the middle of a transfer; and what they leave to others. Only
// the software GPU stands still where a test wants it.
#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <c10/cuda/CUDAStream.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "cuda/channels.h"
#include "serialization/converter_registry.h"
#include "session/blocking.h"
#include "session/peer.h"
#include "tests/cuda/child_end.h"
#include "tests/cuda/child_peer.h"
#include "tests/cuda/device_copies.h"
#include "tests/cuda/ended.h"
#include "tests/cuda/ways.h"
#include "tests/software_gpu/torch_fixture.h"
#include "tests/testing/becomes.h"
#include "tests/testing/child_process.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::c10::cuda::CUDAStream;
using ::tensorferry::software_gpu::SoftwareGpuTorchTest;
using ::tensorferry::testing::Becomes;
using ::tensorferry::testing::ChildPeer;
using ::tensorferry::testing::ChildProcess;
using ::tensorferry::testing::CopiedTo;
using ::tensorferry::testing::Ended;
using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::OfferOf;
using ::tensorferry::testing::StatusIs;
using ::tensorferry::testing::Way;
using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr int64_t kFloats = 2'000'000;  // one body: 8 chunks of cuda_basic
constexpr char kCopy[] = "cudaMemcpyAsync";
constexpr uint32_t kNever = 7;  // a type that nobody sends
constexpr uint32_t kEcho = 8;
constexpr absl::Duration kPatience = absl::Seconds(60);

at::Tensor Filled(c10::Device device, float value) {
  return at::full({kFloats}, value,
                  at::TensorOptions().dtype(at::kFloat).device(device));
}

// "OK 3": a tensor that is 3 everywhere.
std::string TextOf(const absl::StatusOr<Received>& received) {
  if (!received.ok()) return received.status().ToString();
  auto host = CopiedTo(at::kCPU, received->message.tensors);
  if (!host.ok()) return host.status().ToString();
  const at::Tensor& values = (*host)[0];
  const float first = *values.const_data_ptr<float>();
  return values.equal(at::full({kFloats}, first, at::kFloat))
             ? absl::StrCat("OK ", first)
             : "OK, but torn";
}

// One end of a session, and what may stand still there.
class End {
 public:
  explicit End(c10::Device device) : device_(device) {
    if (device.is_cuda()) {
      stream_ = c10::cuda::getStreamFromPool(false, device.index());
    }
  }

  // The first session is its own; another one answers with what comes.
  void Take(std::shared_ptr<Session> session) {
    if (taken_.HasBeenNotified()) return Echo(session);
    session_ = std::move(session);
    taken_.Notify();
  }

  // Operations are numbered from 0. On the stream that is held, if `held`.
  void Send(float value, bool held) {
    const at::Tensor& tensor = tensors_.emplace_back(Filled(device_, value));
    Ended<Receipt>& sent = sent_.emplace_back();
    sends_.push_back(session().Send(
        {.tensors = {tensor}}, {.streams = Streams(held)}, sent.Callback()));
  }
  void Receive(bool held) {
    Ended<Received>& received = received_.emplace_back();
    receives_.push_back(
        session().Receive({.streams = Streams(held)}, received.Callback()));
  }
  void CancelSend(int i) { sends_[i].Cancel(); }
  void CancelReceive(int i) { receives_[i].Cancel(); }
  // Returns when the session has heard of what was asked before.
  void AwaitLoop() {
    Ended<Received> none;
    session().Receive({.filter = {.type = kNever}}, none.Callback()).Cancel();
    none.Wait().IgnoreError();
  }
  absl::Status Sent(int i) { return sent_[i].Wait().status(); }
  std::string ReceivedText(int i) { return TextOf(received_[i].Wait()); }

  const void* SentData(int i) const { return tensors_[i].const_data_ptr(); }
  void LeaveSession() { session_ = nullptr; }

  void HoldStream() {
    software_gpu::Hold(*stream_);
    software_gpu::TakeCalls();
  }
  void ReleaseStream() { software_gpu::Release(*stream_); }
  void FailDevice() {
    FailDeviceInTurn();
    EXPECT_EQ(cudaStreamSynchronize(*stream_), cudaErrorIllegalAddress);
    cudaGetLastError();
  }
  // Once the stream gets there, before what is put on it from now on.
  void FailDeviceInTurn() {
    software_gpu::FailDevice(*stream_, cudaErrorIllegalAddress);
  }

 private:
  static void Echo(const std::shared_ptr<Session>& session) {
    const absl::Status handles = session->Handle(kEcho, [](Session& session,
                                                           Received call) {
      session.Reply(call.envelope, {.tensors = std::move(call.message.tensors)},
                    {}, [](absl::StatusOr<Receipt>) {});
    });
    EXPECT_THAT(handles, IsOk());
    session->OnEnd([session](SessionReport) {});
  }
  Session& session() {
    taken_.WaitForNotification();
    return *session_;
  }
  StreamSet Streams(bool held) const {
    return held && stream_ ? StreamSet{*stream_} : StreamSet{};
  }

  const c10::Device device_;
  std::optional<CUDAStream> stream_;
  std::shared_ptr<Session> session_;
  absl::Notification taken_;
  // Over cuda_xth one whose Send was cancelled may still be read.
  std::vector<at::Tensor> tensors_;
  std::deque<Ended<Receipt>> sent_;
  std::deque<Ended<Received>> received_;
  std::vector<Operation> sends_, receives_;
};

// Converters of a peer, through which lanes get the memory that they write, be
// it a copy on the host.
class CountedWrites {
 public:
  CountedWrites() {
    for (c10::DeviceType type : {c10::kCPU, c10::kCUDA}) {
      EXPECT_TRUE(
          registry_.Register(type, std::make_unique<Converter>(type, this))
              .ok());
    }
  }

  const ConverterRegistry& registry() const { return registry_; }
  int TimesOf(const void* data) {
    absl::MutexLock lock(&mu_);
    return times_[data];
  }

  // From now on a lane that gets memory stands still, until Release.
  void Hold() {
    absl::MutexLock lock(&mu_);
    held_ = true;
  }
  bool AwaitOneThatStandsStill() {
    absl::MutexLock lock(&mu_);
    return mu_.AwaitWithTimeout(
        absl::Condition(
            +[](int* standing) { return *standing > 0; }, &standing_),
        kPatience);
  }
  void Release() {
    absl::MutexLock lock(&mu_);
    held_ = false;
  }

 private:
  class Converter : public DeviceConverter {
   public:
    Converter(c10::DeviceType type, CountedWrites* counts)
        : real_(*ConverterRegistry::Global().Find(type)), counts_(counts) {}

    absl::StatusOr<SendBuffer> PrepareToSend(
        const c10::Storage& storage, ByteRange range,
        c10::Stream carrying) const override {
      return real_->PrepareToSend(storage, range, carrying);
    }
    absl::StatusOr<c10::DataPtr> AllocateToReceive(
        uint64_t nbytes, c10::Device device, c10::Stream receiving,
        BufferSource* source) const override {
      return real_->AllocateToReceive(nbytes, device, receiving, source);
    }
    absl::Status Order(c10::Stream earlier, c10::Stream later) const override {
      return real_->Order(earlier, later);
    }
    void WhenReached(c10::Stream stream, DoneStatus reached) const override {
      real_->WhenReached(stream, std::move(reached));
    }
    absl::StatusOr<c10::DataPtr> CopyToHost(const std::byte* data,
                                            uint64_t nbytes,
                                            c10::Stream stream) const override {
      if (nbytes > 0) counts_->OnWrite(data);
      return real_->CopyToHost(data, nbytes, stream);
    }
    absl::StatusOr<c10::DataPtr> HostMemory(uint64_t nbytes,
                                            c10::Device device) const override {
      return real_->HostMemory(nbytes, device);
    }
    absl::Status CopyFromHost(c10::DataPtr from, uint64_t nbytes,
                              std::byte* data,
                              c10::Stream stream) const override {
      return real_->CopyFromHost(std::move(from), nbytes, data, stream);
    }
    bool CanPack() const override { return real_->CanPack(); }
    tensorpipe::Buffer CarriedBuffer(std::byte* data,
                                     c10::Stream stream) const override {
      counts_->OnWrite(data);
      return real_->CarriedBuffer(data, stream);
    }
    std::vector<DeviceInfo> Devices() const override {
      return real_->Devices();
    }

   private:
    const DeviceConverter* const real_;
    CountedWrites* const counts_;
  };

  void OnWrite(const void* data) {
    absl::MutexLock lock(&mu_);
    ++times_[data];
    ++standing_;
    mu_.Await(absl::Condition(
        +[](bool* held) { return !*held; }, &held_));
    --standing_;
  }

  ConverterRegistry registry_;
  absl::Mutex mu_;
  std::map<const void*, int> times_ ABSL_GUARDED_BY(mu_);
  bool held_ ABSL_GUARDED_BY(mu_) = false;
  int standing_ ABSL_GUARDED_BY(mu_) = 0;
};

bool CallsStandStill() {
  return Becomes([] { return software_gpu::HeldCalls() > 0; });
}
// Whether bytes of a body are to be copied, on the stream that is held.
bool CopiesStandStill() {
  return Becomes([] { return software_gpu::TakeCalls()[kCopy] > 0; });
}

// Whether an operation waits for the stream that is held: what carries it is
// through, but for the device.
bool FencesStandStill() {
  return Becomes(
      [] { return software_gpu::TakeCalls()["cudaStreamAddCallback"] > 0; });
}
// What work that waited for a failed device has caught of its error is gone
// too.
void ClearFailures() {
  for (int device : {1, 0}) {
    cudaSetDevice(device);
    cudaDeviceSynchronize();
    cudaGetLastError();
  }
  software_gpu::ClearFailures();
  EXPECT_EQ(cudaSetDevice(0), cudaSuccess);
}

// What the other peer is asked, in words.
std::string Answer(std::unique_ptr<End>& end, const std::string& line) {
  const std::vector<std::string> words = absl::StrSplit(line, ' ');
  const std::string& verb = words[0];
  int number = 0;
  if (words.size() > 1) absl::SimpleAtoi(words[1], &number);
  const bool held = words.back() == "held";
  if (verb == "device") {
    end = std::make_unique<End>(c10::Device(words[1]));
  } else if (verb == "receive") {
    end->Receive(held);
  } else if (verb == "send") {
    end->Send(static_cast<float>(number), held);
  } else if (verb == "cancel") {
    end->CancelReceive(number);
  } else if (verb == "await_loop") {
    end->AwaitLoop();
  } else if (verb == "received") {
    return end->ReceivedText(number);
  } else if (verb == "hold_stream") {
    end->HoldStream();
  } else if (verb == "fail_device") {
    end->FailDevice();
  } else if (verb == "fail_device_in_turn") {
    end->FailDeviceInTurn();
  } else if (verb == "clear_failures") {
    ClearFailures();
  } else if (verb == "release_stream") {
    end->ReleaseStream();
  } else if (verb == "await_stream") {
    return CopiesStandStill() ? "OK" : "no copy came";
  } else if (verb == "await_fence") {
    return FencesStandStill() ? "OK" : "no fence came";
  } else if (verb == "hold_calls") {
    software_gpu::HoldCalls(kCopy);
  } else if (verb == "release_calls") {
    software_gpu::ReleaseCalls();
  } else if (verb == "await_calls") {
    return CallsStandStill() ? "OK" : "no call came";
  } else {
    return "unknown: " + line;
  }
  return "OK";
}

// From here to another peer.
class FailureTest : public SoftwareGpuTorchTest,
                    public ::testing::WithParamInterface<Way> {
 protected:
  void SetUp() override {
    SoftwareGpuTorchTest::SetUp();
    Open(OfferOf(GetParam()));
  }
  void TearDown() override {
    Close();
    ClearFailures();
    CloseCudaChannelsForTesting();
    SoftwareGpuTorchTest::TearDown();
  }

  const Way& way() const { return GetParam(); }
  // A transfer over cuda_ipc stands still in a call of the other process; over
  // the others on a stream.
  bool stands_in_a_call() const { return way().channel == "cuda_ipc"; }
  bool ours_is_the_gpu() const { return way().source().is_cuda(); }
  bool theirs_is_the_gpu() const { return way().target().is_cuda(); }
  // What fails for one end has failed for the other.
  bool shares_a_device() const {
    return way().processes == 1 && way().source() == way().target();
  }
  // The others have told the other side of what stands still.
  bool stands_on_its_lane() const {
    return (way().channel == "cuda_basic" || way().goes_through_host()) &&
           ours_is_the_gpu();
  }

  void Open(const Offer& offer) {
    near_ = std::make_unique<End>(way().source());
    FERRY_ASSERT_OK_AND_ASSIGN(
        near_peer_, Peer::Create({.name = "near",
                                  .control = "",
                                  .converters = &written_.registry()}));
    if (way().processes == 2) {
      FERRY_ASSERT_OK_AND_ASSIGN(ChildPeer child, ChildPeer::Start());
      child_.emplace(std::move(child));
      address_ = child_->address();
    } else {
      FERRY_ASSERT_OK_AND_ASSIGN(far_peer_, Peer::Create({.name = "far"}));
      address_ = far_peer_->control_address();
    }
    Far(absl::StrCat("device ", way().target().str()));
    if (far_peer_) {
      far_peer_->Accept([this](std::shared_ptr<Session> session) {
        far_->Take(std::move(session));
      });
    }
    FERRY_ASSERT_OK_AND_ASSIGN(
        std::shared_ptr<Session> session,
        blocking::Connect(*near_peer_, address_, offer, kPatience));
    near_->Take(std::move(session));
  }
  // One more session between the peers, to and from another of their devices.
  void OpenNeighbour() {
    const c10::Device device(at::kCUDA,
                             way().target() == c10::Device("cuda:0") ? 1 : 0);
    neighbours_tensor_ = Filled(device, 5);
    FERRY_ASSERT_OK_AND_ASSIGN(
        neighbour_,
        blocking::Connect(
            *near_peer_, address_,
            OfferOf(way(), {absl::StrCat(device.str(), "=", device.str())}),
            kPatience));
  }
  // What it sends comes back.
  absl::StatusOr<Received> CallNeighbour() {
    return blocking::Call(*neighbour_,
                          {.type = kEcho, .tensors = {neighbours_tensor_}});
  }
  void Close() {
    neighbour_ = nullptr;
    neighbours_tensor_ = at::Tensor();
    near_ = nullptr;
    near_peer_ = nullptr;
    far_ = nullptr;
    far_peer_ = nullptr;
    child_.reset();
  }

  std::string Far(const std::string& line) {
    return child_ ? child_->Ask(line) : Answer(far_, line);
  }

  // What is sent from now on on held streams stands still in the middle.
  void Hold() { AtStandstill("hold_"); }
  void AwaitStandstill() { AtStandstill("await_"); }
  void Release() { AtStandstill("release_"); }
  void AtStandstill(const std::string& verb) {
    const std::string line = verb + (stands_in_a_call() ? "calls" : "stream");
    const bool is_near = ours_is_the_gpu() && !stands_in_a_call();
    EXPECT_EQ(is_near ? Answer(near_, line) : Far(line), "OK");
  }

  // Number 0, in the middle.
  void ExpectSendToBeCancelled() {
    near_->CancelSend(0);
    near_->AwaitLoop();
    Release();
    EXPECT_THAT(near_->Sent(0), StatusIs(absl::StatusCode::kCancelled));
    const std::string there = Far("received 0");
    if (!MayHaveArrived(there)) {
      EXPECT_THAT(there, StartsWith("CANCELLED"));
    }
  }
  // Whether it was too late to cancel.
  bool MayHaveArrived(const std::string& there) const {
    return !stands_on_its_lane() && there == "OK 1";
  }
  void ExpectTheNextArrives() {
    Far("receive");
    near_->Send(2, /*held=*/false);
    EXPECT_THAT(near_->Sent(1), IsOk());
    EXPECT_EQ(Far("received 1"), "OK 2");
  }

  // With a new child.
  void ExpectTheNextSessionWorks() {
    Close();
    Open(OfferOf(way()));
    Far("receive");
    near_->Send(3, /*held=*/false);
    EXPECT_THAT(near_->Sent(0), IsOk());
    EXPECT_EQ(Far("received 0"), "OK 3");
  }

  // How often a lane has taken what the near end has sent.
  int TimesWritten(int i) { return written_.TimesOf(near_->SentData(i)); }

  CountedWrites written_;
  std::unique_ptr<Peer> near_peer_, far_peer_;
  std::optional<ChildPeer> child_;
  std::string address_;
  std::unique_ptr<End> near_, far_;
  std::shared_ptr<Session> neighbour_;
  at::Tensor neighbours_tensor_;
};

TEST_P(FailureTest, ACancelledSendEndsBothSidesAndTheNextArrives) {
  Hold();
  Far("receive held");
  near_->Send(1, /*held=*/true);
  AwaitStandstill();
  ExpectSendToBeCancelled();
  ExpectTheNextArrives();
}

TEST_P(FailureTest, ACancelledReceiveEndsBothSidesAndTheNextArrives) {
  Hold();
  Far("receive held");
  near_->Send(1, /*held=*/true);
  AwaitStandstill();
  EXPECT_EQ(Far("cancel 0"), "OK");
  if (!stands_in_a_call()) {
    EXPECT_EQ(Far("await_loop"), "OK");
  }
  Release();
  const std::string there = Far("received 0");
  if (MayHaveArrived(there)) {
    EXPECT_THAT(near_->Sent(0), IsOk());
  } else {
    EXPECT_THAT(there, StartsWith("CANCELLED"));
    EXPECT_THAT(near_->Sent(0), StatusIs(absl::StatusCode::kCancelled));
  }
  ExpectTheNextArrives();
}

// Its lane ends with the neighbour, and is opened again. Where the cancelled
// one has left its lane, or the next one gets ahead of it, that only has to
// arrive.
TEST_P(FailureTest, WhatSharesALaneWithACancelledSendIsSentAgain) {
  Close();
  Offer offer = OfferOf(way());
  offer.limits = Limits();
  offer.limits->body_lanes = 1;
  Open(offer);
  Hold();
  Far("receive held");
  Far("receive");
  near_->Send(1, /*held=*/true);
  AwaitStandstill();
  near_->Send(2, /*held=*/false);
  if (stands_on_its_lane()) {
    EXPECT_TRUE(Becomes([this] { return TimesWritten(1) == 1; }));
  }
  ExpectSendToBeCancelled();
  EXPECT_THAT(near_->Sent(1), IsOk());
  EXPECT_EQ(Far("received 1"), "OK 2");
  if (stands_on_its_lane() && !way().goes_through_host()) {
    EXPECT_EQ(TimesWritten(1), 2);
  }
}

TEST_P(FailureTest, ADeviceThatFailsAfterSendHasLookedIsNamed) {
  if (!ours_is_the_gpu()) GTEST_SKIP() << "no device over here";
  if (shares_a_device()) GTEST_SKIP() << "its receiver refuses it";
  near_->Send(1, /*held=*/true);
  near_->FailDevice();
  Far("receive");
  EXPECT_THAT(near_->Sent(0),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("on cuda:0: cudaErrorIllegalAddress"),
                             Not(HasSubstr("refused")))));
  EXPECT_THAT(Far("received 0"), Not(StartsWith("OK")));
  // It ends while the device is as it is.
  near_->LeaveSession();
  near_peer_ = nullptr;
  software_gpu::ClearFailures();
  // No channel is lost with it.
  ExpectTheNextSessionWorks();
}

TEST_P(FailureTest, ADeviceThatFailsAfterItsReceiverHasGrantedIsNamed) {
  if (!theirs_is_the_gpu()) GTEST_SKIP() << "no device over there";
  if (shares_a_device()) GTEST_SKIP() << "its sender meets it too";
  OpenNeighbour();
  written_.Hold();
  Far("receive");
  near_->Send(1, /*held=*/false);
  EXPECT_TRUE(written_.AwaitOneThatStandsStill());
  EXPECT_EQ(Far("fail_device"), "OK");
  written_.Release();
  EXPECT_THAT(Far("received 0"),
              AllOf(StartsWith("FAILED_PRECONDITION"),
                    HasSubstr(absl::StrCat("on ", way().target().str(),
                                           ": cudaErrorIllegalAddress"))));
  // It hears why, or finds its lanes closed before.
  EXPECT_THAT(near_->Sent(0),
              AnyOf(StatusIs(absl::StatusCode::kFailedPrecondition,
                             HasSubstr("cudaErrorIllegalAddress")),
                    StatusIs(absl::StatusCode::kUnavailable)));
  const absl::StatusOr<Received> neighbours = CallNeighbour();
  EXPECT_EQ(Far("clear_failures"), "OK");
  EXPECT_EQ(TextOf(neighbours), "OK 5");
  ExpectTheNextSessionWorks();
}

// After all that tensorpipe has to say to it, which would throw. cuda_basic
// says some of it on a thread of its own, where that is the end of the process.
TEST_P(FailureTest, ADeviceThatFailsWhileItIsFilledIsNamed) {
  if (way().channel == "cuda_basic") GTEST_SKIP() << "ends the process";
  if (!theirs_is_the_gpu()) GTEST_SKIP() << "no device over there";
  if (shares_a_device()) GTEST_SKIP() << "its sender meets it too";
  Far("hold_stream");
  Far("fail_device_in_turn");
  Far("receive held");
  near_->Send(1, /*held=*/false);
  EXPECT_EQ(Far("await_fence"), "OK");
  EXPECT_EQ(Far("release_stream"), "OK");
  EXPECT_THAT(Far("received 0"), AllOf(StartsWith("FAILED_PRECONDITION"),
                                       HasSubstr("cudaErrorIllegalAddress")));
  EXPECT_THAT(near_->Sent(0),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("cudaErrorIllegalAddress")));
  EXPECT_EQ(Far("clear_failures"), "OK");
  ExpectTheNextSessionWorks();
}

// One that dies is in PeerDeathTest.
TEST_P(FailureTest, APeerThatGoesInTheMiddleIsAnError) {
  if (way().processes == 2) GTEST_SKIP() << "it goes with its process";
  near_->Receive(/*held=*/false);
  Hold();
  Far("receive held");
  near_->Send(1, /*held=*/true);
  AwaitStandstill();
  // It waits for the stream.
  std::thread going([this] {
    far_->LeaveSession();
    far_peer_ = nullptr;
  });
  EXPECT_THAT(near_->ReceivedText(0), Not(StartsWith("OK")));
  Release();
  going.join();
  EXPECT_THAT(near_->Sent(0), Not(IsOk()));
  ExpectTheNextSessionWorks();
}

INSTANTIATE_TEST_SUITE_P(InOneProcess, FailureTest,
                         ::testing::ValuesIn(testing::WaysInOneProcess()),
                         testing::NameOf);
INSTANTIATE_TEST_SUITE_P(InTwoProcesses, FailureTest,
                         ::testing::ValuesIn(testing::WaysInTwoProcesses()),
                         testing::NameOf);

// ---- a peer that dies

using PeerDeathTest = FailureTest;

TEST_P(PeerDeathTest, AReceiverThatDiesInTheMiddleIsAnError) {
  Hold();
  Far("receive held");
  near_->Send(1, /*held=*/true);
  AwaitStandstill();
  child_->Kill();
  if (!stands_in_a_call() && ours_is_the_gpu()) Release();
  EXPECT_THAT(near_->Sent(0), StatusIs(absl::StatusCode::kUnavailable));
  ExpectTheNextSessionWorks();
}

TEST_P(PeerDeathTest, AReceiverThatDiesWhileItsDeviceCopiesIsAnError) {
  if (way().target().is_cpu()) GTEST_SKIP() << "no device over there";
  Far("hold_stream");
  Far("receive held");
  near_->Send(1, /*held=*/false);
  EXPECT_EQ(Far("await_stream"), "OK");
  child_->Kill();
  EXPECT_THAT(near_->Sent(0), StatusIs(absl::StatusCode::kUnavailable));
  // Over cuda_ipc what the dead process had not copied lies in the staging of
  // all sessions, and whoever uses that next waits for it. The error is whose
  // call asks first; it is not to be one of tensorpipe's.
  if (way().channel == "cuda_ipc") {
    cudaDeviceSynchronize();
  } else {
    ExpectTheNextSessionWorks();
  }
}

TEST_P(PeerDeathTest, ASenderThatDiesWhileItsDeviceCopiesIsAnError) {
  if (way().target().is_cpu()) GTEST_SKIP() << "no device over there";
  // The first message over cuda_ipc would wait for the device that stands
  // still.
  near_->Receive(/*held=*/false);
  Far("send 2");
  EXPECT_EQ(near_->ReceivedText(0), "OK 2");
  Far("hold_stream");
  near_->Receive(/*held=*/false);
  Far("send 1 held");
  EXPECT_EQ(Far("await_stream"), "OK");
  child_->Kill();
  EXPECT_THAT(near_->ReceivedText(1), AnyOf(StartsWith("UNAVAILABLE"),
                                            StartsWith("FAILED_PRECONDITION")));
  if (way().channel == "cuda_ipc") cudaDeviceSynchronize();  // as above
  ExpectTheNextSessionWorks();
}

INSTANTIATE_TEST_SUITE_P(InTwoProcesses, PeerDeathTest,
                         ::testing::ValuesIn(testing::WaysInTwoProcesses()),
                         testing::NameOf);

// ---- a sender whose channel was lost, and whom its receiver has met

constexpr char kLoseIpc[] = "--lose_ipc";

Way OverIpc() { return {"cuda_ipc", "cuda:0=cuda:1", "unix", 2}; }

// The other process: what comes of a message before cuda_ipc is lost in it, of
// the one at which it is, and of one in the next session.
int LoseIpc(const std::string& address) {
  auto peer = *Peer::Create({.name = "near", .control = ""});
  const at::Tensor tensor = Filled(OverIpc().source(), 1);
  cudaDeviceSynchronize();
  const auto send = [&](Session& session) {
    testing::WriteLine(blocking::Send(session, {.type = 1, .tensors = {tensor}},
                                      {.timeout = kPatience})
                           .status()
                           .ToString());
  };
  auto session =
      blocking::Connect(*peer, address, OfferOf(OverIpc()), kPatience);
  if (!session.ok()) return 1;
  send(**session);
  software_gpu::FailCall(kCopy, 1, cudaErrorIllegalAddress);
  send(**session);
  session = blocking::Connect(*peer, address, OfferOf(OverIpc()), kPatience);
  if (!session.ok()) return 1;
  send(**session);
  return 0;
}

class LostIpcTest : public SoftwareGpuTorchTest {
 protected:
  void TearDown() override {
    CloseCudaChannelsForTesting();
    SoftwareGpuTorchTest::TearDown();
  }
};

TEST_F(LostIpcTest, AReceiverThatMetTheSenderBeforeRefusesItAndSaysWhy) {
  absl::Mutex mu;
  std::vector<absl::Status> ends;  // of sessions
  auto peer = *Peer::Create({.name = "far"});
  peer->Accept([&](const std::shared_ptr<Session>& session) {
    session->Handle(1, [](Session&, Received) {}).IgnoreError();
    session->OnEnd([&, session](SessionReport report) {
      absl::MutexLock lock(&mu);
      ends.push_back(std::move(report.why));
    });
  });
  auto child = ChildProcess::Start({kLoseIpc, peer->control_address()});
  ASSERT_THAT(child, IsOk());
  EXPECT_EQ(child->ReadLine().value(), "OK");
  EXPECT_THAT(child->ReadLine().value(),
              AllOf(StartsWith("UNAVAILABLE"), HasSubstr(kCopy)));
  EXPECT_THAT(
      child->ReadLine().value(),
      AnyOf(StartsWith("FAILED_PRECONDITION"), StartsWith("UNAVAILABLE")));
  EXPECT_EQ(child->Wait(), 0);
  ASSERT_TRUE(Becomes([&] {
    absl::MutexLock lock(&mu);
    return ends.size() == 2;
  }));
  EXPECT_THAT(ends,
              Contains(StatusIs(absl::StatusCode::kFailedPrecondition,
                                HasSubstr("than when it was first met"))));
}

int RunChild() {
  std::unique_ptr<End> end;
  return testing::ServeAsChild(
      [&end](std::shared_ptr<Session> session) {
        end->Take(std::move(session));
      },
      [&end](const std::string& line) { return Answer(end, line); });
}

}  // namespace
}  // namespace tensorferry

int main(int argc, char** argv) {
  if (argc > 1 && std::string(argv[1]) == tensorferry::testing::kChildPeer) {
    return tensorferry::testing::EndChild(tensorferry::RunChild());
  }
  if (argc > 2 && std::string(argv[1]) == tensorferry::kLoseIpc) {
    return tensorferry::LoseIpc(argv[2]);
  }
  ::testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}
