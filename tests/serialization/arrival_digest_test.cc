#include "serialization/arrival_digest.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "base/executor.h"
#include "serialization/allocate.h"
#include "serialization/digest.h"
#include "serialization/digest_helpers.h"
#include "serialization/serialize.h"
#include "serialization/xxh3.h"
#include "tests/serialization/round_trip.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using testing::IsOk;
using testing::NamedMessageOf;

// Small storages, which share a buffer, between large ones that have their own.
class ArrivalDigestTest : public ::testing::Test {
 protected:
  void SetUp() override {
    at::Tensor large = at::arange(700000, at::kFloat);  // three chunks
    TensorMessage message = NamedMessageOf(
        {at::ones({3}), large, at::arange(77), large.slice(0, 5),
         at::empty({0}), at::arange(50001, at::kFloat), at::ones({100})});
    message.payload = "payload";
    auto sent = Serialize(std::move(message), {});
    ASSERT_THAT(sent, IsOk());
    sent_ = *std::move(sent);
    auto received = Allocate(sent_.manifest(), {});
    ASSERT_THAT(received, IsOk());
    received_ = *std::move(received);
  }

  std::vector<uint64_t> DigestsSent() const {
    return DigestOf(sent_.manifest(), sent_.regions(), DigestScope::kHost);
  }

  static std::shared_ptr<ChunkedDigests> NewDigests(
      const Manifest& manifest, DigestHelpers* helpers = nullptr) {
    return std::make_shared<ChunkedDigests>(LengthsToDigest(manifest), helpers);
  }

  WriteBuffers sent_;
  ReadBuffers received_;
};

TEST_F(ArrivalDigestTest, IsThatOfTheWholeHoweverItComesIn) {
  ThreadPool threads(2);
  DigestHelpers helpers(&threads, 2);
  testing::CarryRegions(sent_, received_);
  for (uint64_t step :
       {uint64_t{1}, uint64_t{63}, uint64_t{1000}, uint64_t{4096},
        kDigestChunk - 1, kDigestChunk, kDigestChunk + 1, uint64_t{1} << 30}) {
    ArrivalDigest digest(received_.manifest(), received_.regions(),
                         NewDigests(received_.manifest(), &helpers));
    for (int b = 0; b < received_.manifest().buffer_count(); ++b) {
      const uint64_t nbytes = received_.regions()[b].nbytes;
      for (uint64_t at = step; at < nbytes; at += step) {
        digest.AdvanceTo(b, at);
      }
      if (b % 2 == 0) digest.AdvanceTo(b, nbytes);
    }
    EXPECT_EQ(digest.Finish(), DigestsSent()) << "in steps of " << step;
  }
}

TEST_F(ArrivalDigestTest, ReadsNothingThatHasNotCome) {
  ArrivalDigest digest(received_.manifest(), received_.regions(),
                       NewDigests(received_.manifest()));
  for (int b = 0; b < received_.manifest().buffer_count(); ++b) {
    const Region& from = sent_.regions()[b];
    const Region& to = received_.regions()[b];
    const uint64_t step = from.nbytes / 3 + 1;
    for (uint64_t at = 0; at < from.nbytes; at += step) {
      digest.AdvanceTo(b, at);
      std::copy_n(from.data + at, std::min(step, from.nbytes - at),
                  to.data + at);
    }
  }
  EXPECT_EQ(digest.Finish(), DigestsSent());
}

// Bytes that would give another digest.
TEST_F(ArrivalDigestTest, ReadsNothingThatHasADigest) {
  testing::CarryRegions(sent_, received_);
  const Manifest& manifest = received_.manifest();
  const std::shared_ptr<ChunkedDigests> digests = NewDigests(manifest);
  ArrivalDigest digest(manifest, received_.regions(), digests);
  int large = 0;
  while (manifest.storage_nbytes(large) < 2 * kDigestChunk) ++large;
  std::byte* const data =
      received_.regions()[manifest.storage_buffer(large)].data;
  *digests->ChunksFrom(large, 0) = Xxh3NotZero(data, kDigestChunk);
  data[0] ^= std::byte{1};
  EXPECT_EQ(digest.Finish(), DigestsSent());
}

TEST_F(ArrivalDigestTest, OfAMessageWithoutTensorsIsThatOfItsPayload) {
  TensorMessage message;
  message.payload = "payload";
  FERRY_ASSERT_OK_AND_ASSIGN(WriteBuffers sent,
                             Serialize(std::move(message), {}));
  ArrivalDigest digest(sent.manifest(), sent.regions(),
                       NewDigests(sent.manifest()));
  EXPECT_EQ(digest.Finish(),
            DigestOf(sent.manifest(), sent.regions(), DigestScope::kHost));
}

}  // namespace
}  // namespace tensorferry
