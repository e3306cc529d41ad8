// Bytes of a peer as a script of frames for both directions of a local channel:
// each is refused, or decoded to what encodes to the same bytes; and no frame
// makes the channel read or write outside of the buffers that it was given, end
// one that is incomplete, or touch one that has ended.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "absl/strings/string_view.h"
#include "channel/local_frame.h"
#include "channel/offered_buffers.h"
#include "channel/wanted_buffers.h"

namespace tensorferry {
namespace {

using Kind = LocalFrame::Kind;

void Require(bool condition) {
  if (!condition) std::abort();
}

// Takes scripts: a byte that says what this side does, else a frame follows.
class Script {
 public:
  Script(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  uint8_t Byte() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }
  bool empty() const { return size_ == 0; }
  // Zeros where the script is too short.
  LocalFrameBytes Frame() {
    LocalFrameBytes frame = {};
    const size_t n = std::min(size_, frame.size());
    std::memcpy(frame.data(), data_, n);
    data_ += n;
    size_ -= n;
    return frame;
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

// The arena that neither side could map.
constexpr uint8_t kNotMapped = 9;

struct OnlyOnes : CopyReader {
  void Read(const std::byte* data, uint64_t nbytes) override {
    for (uint64_t i = 0; i < nbytes; ++i) Require(data[i] == std::byte{1});
  }
};

class Receiver {
 public:
  void Add(size_t length, WantedBuffers::Place place) {
    buffers_.push_back(std::make_unique<std::vector<char>>(length));
    wanted_.Add(buffers_.back()->data(), length, place);
    Go();
  }
  bool Hear(const LocalFrame& frame) {
    if (frame.kind == Kind::kOffer || frame.kind == Kind::kLoan) {
      return wanted_.OnOffer(frame).ok() && Go();
    }
    if (frame.kind == Kind::kPlaced || frame.kind == Kind::kPlacing) {
      // What an honest peer has written by then.
      wanted_.ForEachOpenToPeer([](const WantedBuffers::Open& open) {
        std::memset(open.data, 1, open.length);
      });
      const bool all = frame.kind == Kind::kPlaced;
      return (all ? wanted_.OnPlaced(frame) : wanted_.OnPlacing(frame)).ok() &&
             Go();
    }
    if (frame.kind == Kind::kCannot)
      return wanted_.OnCannot(frame).ok() && Go();
    absl::StatusOr<void*> to = wanted_.OnData(frame);
    if (!to.ok()) return false;
    // What the stream would write: AddressSanitizer watches.
    std::memset(*to, 1, frame.length);
    wanted_.OnDataRead();
    return Go();
  }
  void RefuseMemory() { vm_ = absl::FailedPreconditionError("refused"); }

 private:
  bool Go() {
    while (true) {
      absl::StatusOr<WantedBuffers::Step> step =
          wanted_.NextStep(absl::OkStatus(), vm_);
      if (!step.ok()) return false;
      if (step->empty()) break;
      if (step->lease) Lease(*step->lease);
      if (step->want && step->want->number % 2 == 0) {
        wanted_.ReadAlong(step->want->number, std::make_shared<OnlyOnes>());
      }
      if (!step->copy) continue;
      Require(step->copy->length <= 7);
      if (!vm_.ok()) std::abort();
      std::memset(step->copy->to, 1, step->copy->length);
      wanted_.OnCopied();
    }
    while (auto arrived = wanted_.NextArrived()) {
      arrived->reader->Read(arrived->data, arrived->length);
      wanted_.OnRead();
    }
    while (auto ended = wanted_.TakeEnded()) {
      const std::vector<char>& buffer = *buffers_[ended_++];
      Require(ended->buffer == buffer.data());
      for (char byte : buffer) Require(byte == 1);
      buffers_[ended_ - 1] = nullptr;
    }
    return true;
  }

  void Lease(const WantedBuffers::Lease& lease) {
    if (lease.arena == kNotMapped) {
      return wanted_.OnLeaseRefused(absl::FailedPreconditionError("no room"));
    }
    std::memset(lease.to, 1, lease.length);
    wanted_.OnLeased();
  }

  WantedBuffers wanted_{7};
  absl::Status vm_;
  std::vector<std::unique_ptr<std::vector<char>>> buffers_;
  size_t ended_ = 0;
};

class Sender {
 public:
  void Add(size_t length, bool lent) {
    buffers_.push_back(std::make_unique<std::vector<char>>(length));
    std::optional<OfferedBuffers::Loan> loan;
    if (lent) loan.emplace();
    offered_.Add(buffers_.back()->data(), length, loan);
    Go();
  }
  bool Hear(const LocalFrame& frame) {
    return offered_.OnAnswer(frame).ok() && Go();
  }

 private:
  bool Go() {
    while (auto copy = offered_.NextCopy()) {
      Require(copy->length <= 7);
      std::vector<char> placed(copy->length);
      std::memcpy(placed.data(), copy->from, placed.size());
      if (copy->arena == kNotMapped) {
        offered_.OnCannotCopy(absl::FailedPreconditionError("not mapped"));
      } else {
        offered_.OnCopied();
      }
    }
    while (auto piece = offered_.NextPiece()) {
      Require(piece->header.length <= 7);
      std::vector<char> copy(piece->header.length);
      std::memcpy(copy.data(), piece->data, copy.size());
      offered_.OnPieceWritten();
    }
    while (auto ended = offered_.TakeEnded()) {
      Require(ended->buffer == buffers_[ended_]->data());
      buffers_[ended_++] = nullptr;
    }
    return true;
  }

  OfferedBuffers offered_{7, 7};
  std::vector<std::unique_ptr<std::vector<char>>> buffers_;
  size_t ended_ = 0;
};

void Run(Script script) {
  Receiver receiver;
  Sender sender;
  while (!script.empty()) {
    const uint8_t what = script.Byte();
    if (what < 64) {
      receiver.Add(what, {.lease = what % 4 >= 2, .pool = what % 2 == 1});
    } else if (what < 128) {
      sender.Add(what - 64, /*lent=*/what % 4 >= 2);
    } else if (what == 128) {
      receiver.RefuseMemory();
    } else {
      const LocalFrameBytes bytes = script.Frame();
      auto frame = DecodeLocalFrame(
          {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
      if (!frame.ok()) return;
      Require(EncodeLocalFrame(*frame) == bytes);
      const bool answer =
          frame->kind == Kind::kDone || frame->kind == Kind::kStream ||
          frame->kind == Kind::kWant || frame->kind == Kind::kLeased;
      const bool arena =
          frame->kind == Kind::kArena || frame->kind == Kind::kLend;
      if (frame->kind == Kind::kHello || arena) continue;
      if (!(answer ? sender.Hear(*frame) : receiver.Hear(*frame))) return;
    }
  }
}

}  // namespace
}  // namespace tensorferry

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tensorferry::Run({data, size});
  return 0;
}
