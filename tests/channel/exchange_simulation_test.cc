// Both directions' rules against each other, in any order that a connection and
// a copier may bring about.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "channel/offered_buffers.h"
#include "channel/wanted_buffers.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::IsOk;

constexpr uint64_t kPieceBytes = 1000;

struct Reader : CopyReader {
  void Read(const std::byte* data, uint64_t nbytes) override {
    read.append(reinterpret_cast<const char*>(data), nbytes);
  }
  std::string read;
};

// One sender and one receiver; the seed decides what happens next.
class Simulation {
 public:
  explicit Simulation(uint32_t seed) : random_(seed) {
    for (int i = 0; i < 12; ++i) {
      const uint64_t sizes[] = {0, 1, kPieceBytes, 2500, 5 * kPieceBytes + 3};
      sent_.emplace_back(sizes[random_() % 5], static_cast<char>('a' + i));
      got_.emplace_back(sent_.back().size(), '\0');
    }
    if (random_() % 4 == 0) vm_ = absl::FailedPreconditionError("not proved");
    if (random_() % 4 == 0) pool_ = absl::FailedPreconditionError("none");
  }

  void Run() {
    for (int step = 0; step < 100'000 && !Ended(); ++step) {
      Act(random_() % 9);
      if (::testing::Test::HasFatalFailure()) return;
      while (auto ended = offered_.TakeEnded()) sender_.push_back(*ended);
      while (auto ended = wanted_.TakeEnded()) receiver_.push_back(*ended);
    }
    ASSERT_TRUE(Ended());
    EXPECT_EQ(got_, sent_);
    for (size_t i = 0; i < sent_.size(); ++i) {
      EXPECT_EQ(sender_[i].buffer, sent_[i].data());
      EXPECT_EQ(receiver_[i].buffer, got_[i].data());
      EXPECT_EQ(sender_[i].strategy, receiver_[i].strategy);
      if (!receiver_[i].not_lease.ok()) {
        EXPECT_NE(receiver_[i].strategy, "lease");
      }
      EXPECT_EQ(sender_[i].not_vm, receiver_[i].not_vm);
      if (readers_.contains(i) && receiver_[i].strategy == "pool") {
        EXPECT_EQ(readers_[i]->read, sent_[i]);
      }
      if (!sender_[i].not_pool.ok()) {
        EXPECT_EQ(sender_[i].not_pool, receiver_[i].not_pool);
      }
    }
  }

 private:
  bool Ended() const {
    return sender_.size() == sent_.size() && receiver_.size() == sent_.size();
  }

  void Act(int what) {
    switch (what) {
      case 0:
        return AddToSend();
      case 1:
        if (wanted_count_ == got_.size()) return;
        wanted_.Add(got_[wanted_count_].data(), got_[wanted_count_].size(),
                    {.lease = random_() % 2 == 0, .pool = random_() % 2 == 0});
        ++wanted_count_;
        return TakeSteps();
      case 2:
        return HearAtReceiver();
      case 3:
        return HearAtSender();
      case 4:
        return EndCopy();
      case 5:
        if (unwritten_ == 0) return;
        --unwritten_;
        offered_.OnPieceWritten();
        return WritePieces();
      case 6:
        return EndPlacing();
      case 7:
        return EndRead();
      default:
        if (random_() % 20 == 0) {
          vm_ = absl::FailedPreconditionError("refused");
        }
    }
  }

  void HearAtSender() {
    if (to_sender_.empty()) return;
    ASSERT_THAT(offered_.OnAnswer(to_sender_.front()), IsOk());
    to_sender_.pop_front();
    if (!placing_) placing_ = offered_.NextCopy();
    WritePieces();
  }

  // As the system lets it: the bytes are there, or cannot be copied.
  void EndPlacing() {
    if (!placing_) return;
    if (placing_->before == 0 && random_() % 6 == 0) {
      to_receiver_.push_back(
          {offered_.OnCannotCopy(absl::FailedPreconditionError("cannot")),
           nullptr});
    } else {
      std::memcpy(got_[placing_->arena].data() + placing_->offset,
                  placing_->from, placing_->length);
      if (auto placed = offered_.OnCopied()) {
        to_receiver_.push_back({*placed, nullptr});
      } else if (random_() % 2 == 0) {
        to_receiver_.push_back({{.kind = LocalFrame::Kind::kPlacing,
                                 .number = placing_->number,
                                 .length = placing_->before + placing_->length},
                                nullptr});
      }
    }
    placing_ = offered_.NextCopy();
    WritePieces();
  }

  // Some of what has been placed is read along.
  void EndRead() {
    if (reading_) {
      reading_->reader->Read(reading_->data, reading_->length);
      wanted_.OnRead();
    }
    reading_ = wanted_.NextArrived();
  }

  void AddToSend() {
    if (sent_count_ == sent_.size()) return;
    const std::string& bytes = sent_[sent_count_++];
    std::optional<OfferedBuffers::Loan> loan;
    // All of them lie in one arena.
    if (random_() % 2 == 0) loan = {3, 4096 * (sent_count_ - 1)};
    if (auto offer = offered_.Add(bytes.data(), bytes.size(), loan)) {
      to_receiver_.push_back({*offer, nullptr});
    }
  }

  void WritePieces() {
    while (auto piece = offered_.NextPiece()) {
      to_receiver_.push_back(*piece);
      ++unwritten_;
    }
  }

  void HearAtReceiver() {
    if (to_receiver_.empty()) return;
    const OfferedBuffers::Piece next = to_receiver_.front();
    to_receiver_.pop_front();
    if (next.header.kind == LocalFrame::Kind::kOffer ||
        next.header.kind == LocalFrame::Kind::kLoan) {
      ASSERT_THAT(wanted_.OnOffer(next.header), IsOk());
    } else if (next.header.kind == LocalFrame::Kind::kPlacing) {
      ASSERT_THAT(wanted_.OnPlacing(next.header), IsOk());
    } else if (next.header.kind == LocalFrame::Kind::kPlaced) {
      ASSERT_THAT(wanted_.OnPlaced(next.header), IsOk());
    } else if (next.header.kind == LocalFrame::Kind::kCannot) {
      ASSERT_THAT(wanted_.OnCannot(next.header), IsOk());
    } else {
      const absl::StatusOr<void*> to = wanted_.OnData(next.header);
      ASSERT_THAT(to, IsOk());
      std::memcpy(*to, next.data, next.header.length);
      wanted_.OnDataRead();
    }
    TakeSteps();
  }

  void TakeSteps() {
    while (true) {
      const absl::StatusOr<WantedBuffers::Step> step =
          wanted_.NextStep(pool_, vm_);
      ASSERT_THAT(step, IsOk());
      if (step->want) {
        // Each buffer is an arena of its own.
        to_sender_.push_back({.kind = LocalFrame::Kind::kWant,
                              .arena = static_cast<uint8_t>(step->want->number),
                              .number = step->want->number,
                              .length = step->want->length});
        if (random_() % 2 == 0) {
          auto& reader = readers_[step->want->number];
          reader = std::make_shared<Reader>();
          wanted_.ReadAlong(step->want->number, reader);
        }
      }
      if (step->lease) lease_ = step->lease;
      if (step->answer) to_sender_.push_back(*step->answer);
      if (step->copy) copy_ = step->copy;
      if (step->empty()) return;
    }
  }

  // As the system lets it: the copy is done, or refused.
  void EndCopy() {
    if (lease_) return EndLease();
    if (!copy_) return;
    if (vm_.ok()) {
      std::memcpy(copy_->to, reinterpret_cast<const void*>(copy_->from),
                  copy_->length);
      if (auto done = wanted_.OnCopied()) to_sender_.push_back(*done);
    } else {
      wanted_.OnCopyRefused(vm_);
    }
    copy_.reset();
    TakeSteps();
  }

  // It is there now, or cannot be.
  void EndLease() {
    if (random_() % 6 == 0) {
      wanted_.OnLeaseRefused(absl::FailedPreconditionError("not mapped"));
    } else {
      EXPECT_EQ(lease_->arena, 3);
      std::memcpy(lease_->to, sent_[lease_->offset / 4096].data(),
                  lease_->length);
      to_sender_.push_back(wanted_.OnLeased());
    }
    lease_.reset();
    TakeSteps();
  }

  std::mt19937 random_;
  std::vector<std::string> sent_, got_;
  size_t sent_count_ = 0, wanted_count_ = 0;
  OfferedBuffers offered_{kPieceBytes, kPieceBytes};
  WantedBuffers wanted_{kPieceBytes};
  absl::Status pool_, vm_;
  std::deque<OfferedBuffers::Piece> to_receiver_;
  std::deque<LocalFrame> to_sender_;
  std::optional<WantedBuffers::Copy> copy_;
  std::optional<WantedBuffers::Lease> lease_;
  std::optional<OfferedBuffers::Copy> placing_;
  std::map<uint64_t, std::shared_ptr<Reader>> readers_;  // by buffer
  std::optional<WantedBuffers::Arrived> reading_;
  int unwritten_ = 0;
  std::vector<Carried> sender_, receiver_;
};

TEST(ExchangeSimulationTest, EveryBufferArrivesWholeAndInOrder) {
  for (uint32_t seed = 0; seed < 2000; ++seed) {
    SCOPED_TRACE(seed);
    Simulation(seed).Run();
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace tensorferry
