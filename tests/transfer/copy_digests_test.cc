#include "transfer/copy_digests.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <vector>

#include "serialization/xxh3.h"

namespace tensorferry {
namespace {

constexpr uint64_t kNbytes = 2 * kDigestChunk + 5;

class CopyDigestsTest : public ::testing::Test {
 protected:
  CopyDigestsTest() : bytes_(kNbytes) {
    for (size_t i = 0; i < kNbytes; ++i) {
      bytes_[i] = static_cast<std::byte>(i * i % 251);
    }
  }

  static std::shared_ptr<ChunkedDigests> NewDigests() {
    return std::make_shared<ChunkedDigests>(
        std::vector<uint64_t>{3, kDigestChunk + kNbytes});
  }
  void Expect(std::shared_ptr<ChunkedDigests> digests) {
    digests_.Expect(data(), kNbytes, std::move(digests), 1, kDigestChunk);
  }
  void Copy(CopyReader& reader) const {
    constexpr uint64_t kPart = 100'000;
    for (uint64_t at = 0; at < kNbytes; at += kPart) {
      reader.Read(data() + at, std::min(kPart, kNbytes - at));
    }
  }
  const std::byte* data() const { return bytes_.data(); }

  std::vector<std::byte> bytes_;
  CopyDigests digests_;
};

TEST_F(CopyDigestsTest, AreThoseOfEachChunkThatIsRead) {
  const std::shared_ptr<ChunkedDigests> digests = NewDigests();
  Expect(digests);
  const std::shared_ptr<CopyReader> reader = digests_.ReaderOf(data(), kNbytes);
  ASSERT_NE(reader, nullptr);
  Copy(*reader);
  const uint64_t* const chunks = digests->ChunksFrom(1, 0);
  EXPECT_EQ(chunks[0], 0u);
  for (uint64_t i = 0; i < 3; ++i) {
    const uint64_t at = i * kDigestChunk;
    EXPECT_EQ(chunks[1 + i],
              Xxh3NotZero(data() + at, std::min(kDigestChunk, kNbytes - at)));
  }
  digests_.Forget(data());
}

TEST_F(CopyDigestsTest, OneThatIsCopiedInAnotherWayThanExpectedIsNot) {
  Expect(NewDigests());
  EXPECT_EQ(digests_.ReaderOf(data(), kNbytes - 1), nullptr);
  EXPECT_EQ(digests_.ReaderOf(data() + 1, kNbytes - 1), nullptr);
}

TEST_F(CopyDigestsTest, OneThatIsCopiedTwiceIsReadOnce) {
  Expect(NewDigests());
  EXPECT_NE(digests_.ReaderOf(data(), kNbytes), nullptr);
  EXPECT_EQ(digests_.ReaderOf(data(), kNbytes), nullptr);
}

TEST_F(CopyDigestsTest, OfTheSameBytesOfTwoMessagesNoneAreComputed) {
  for (const bool other_is_digested : {true, false}) {
    Expect(NewDigests());
    Expect(other_is_digested ? NewDigests() : nullptr);
    EXPECT_EQ(digests_.ReaderOf(data(), kNbytes), nullptr);
    digests_.Forget(data());
    EXPECT_EQ(digests_.ReaderOf(data(), kNbytes), nullptr);
    digests_.Forget(data());
  }
  Expect(NewDigests());
  EXPECT_NE(digests_.ReaderOf(data(), kNbytes), nullptr);
}

TEST_F(CopyDigestsTest, OfACopyThatIsNotFinishedThereAreNone) {
  const std::shared_ptr<ChunkedDigests> digests = NewDigests();
  Expect(digests);
  digests_.ReaderOf(data(), kNbytes)->Read(data(), kNbytes - 1);
  for (uint64_t i = 0; i < 4; ++i) EXPECT_EQ(digests->ChunksFrom(1, 0)[i], 0u);
}

TEST_F(CopyDigestsTest, WhatIsCopiedOnceMoreIsUnknownAgain) {
  const std::shared_ptr<ChunkedDigests> digests = NewDigests();
  Expect(digests);
  Copy(*digests_.ReaderOf(data(), kNbytes));
  digests_.Forget(data());
  EXPECT_NE(digests->ChunksFrom(1, 0)[1], 0u);
  Expect(digests);
  for (uint64_t i = 0; i < 4; ++i) EXPECT_EQ(digests->ChunksFrom(1, 0)[i], 0u);
}

TEST_F(CopyDigestsTest, WhatIsCopiedOnceMoreForTwoMessagesIsUnknownToo) {
  const std::shared_ptr<ChunkedDigests> digests = NewDigests();
  Expect(digests);
  Copy(*digests_.ReaderOf(data(), kNbytes));
  digests_.Forget(data());
  Expect(NewDigests());
  Expect(digests);
  for (uint64_t i = 0; i < 4; ++i) EXPECT_EQ(digests->ChunksFrom(1, 0)[i], 0u);
}

TEST_F(CopyDigestsTest, AreLikelyOnceSomethingWasCopied) {
  EXPECT_FALSE(digests_.are_likely());
  Expect(nullptr);
  EXPECT_EQ(digests_.ReaderOf(data(), kNbytes), nullptr);
  EXPECT_TRUE(digests_.are_likely());
  digests_.Forget(data());
  EXPECT_TRUE(digests_.are_likely());
  Expect(NewDigests());
  digests_.Forget(data());
  EXPECT_FALSE(digests_.are_likely());
}

}  // namespace
}  // namespace tensorferry
