#include "serialization/chunked_digests.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "base/executor.h"
#include "serialization/digest_helpers.h"
#include "tests/serialization/portable_xxh3.h"
#include "tests/testing/held_executor.h"

namespace tensorferry {
namespace {

using testing::HeldExecutor;
using testing::PortableXxh3;

std::vector<std::byte> Bytes(size_t nbytes) {
  std::vector<std::byte> bytes(nbytes);
  for (size_t i = 0; i < nbytes; ++i) {
    bytes[i] = static_cast<std::byte>(i * i % 251);
  }
  return bytes;
}

// As docs/wire_format.md has it.
uint64_t Want(const std::vector<std::byte>& bytes) {
  constexpr size_t kMiB = size_t{1} << 20;
  if (bytes.size() <= kMiB) return PortableXxh3(bytes.data(), bytes.size());
  std::string digests;
  for (size_t at = 0; at < bytes.size(); at += kMiB) {
    const uint64_t digest =
        PortableXxh3(bytes.data() + at, std::min(kMiB, bytes.size() - at));
    for (int i = 0; i < 8; ++i) digests.push_back(digest >> (8 * i) & 0xff);
  }
  return PortableXxh3(reinterpret_cast<const std::byte*>(digests.data()),
                      digests.size());
}

std::vector<std::vector<std::byte>> Runs() {
  std::vector<std::vector<std::byte>> runs;
  for (const size_t nbytes :
       {size_t{0}, size_t{1}, size_t{65536}, size_t{65537}, kDigestChunk,
        kDigestChunk + 1, 5 * kDigestChunk, 7 * kDigestChunk - 1}) {
    runs.push_back(Bytes(nbytes));
  }
  return runs;
}

std::vector<uint64_t> LengthsOf(
    const std::vector<std::vector<std::byte>>& runs) {
  std::vector<uint64_t> lengths;
  for (const auto& run : runs) lengths.push_back(run.size());
  return lengths;
}

std::vector<uint64_t> DigestsOf(const std::vector<std::vector<std::byte>>& runs,
                                DigestHelpers* helpers) {
  ChunkedDigests digests(LengthsOf(runs), helpers);
  for (size_t i = 0; i < runs.size(); ++i) {
    digests.Add(i, runs[i].data(), 0, runs[i].size());
  }
  digests.Compute();
  return digests.Take();
}

TEST(ChunkedDigestsTest, AreThoseOfTheChunksDigests) {
  const auto runs = Runs();
  const std::vector<uint64_t> digests = DigestsOf(runs, nullptr);
  for (size_t i = 0; i < runs.size(); ++i) {
    EXPECT_EQ(digests[i], Want(runs[i])) << runs[i].size() << " bytes";
  }
}

// They are on the wire.
TEST(ChunkedDigestsTest, AreStable) {
  EXPECT_EQ(DigestsOf({{}, Bytes(3 * kDigestChunk)}, nullptr),
            (std::vector<uint64_t>{0x2d06800538d394c2u, 2909975596913507023u}));
}

TEST(ChunkedDigestsTest, AreTheSameWhoeverHelps) {
  const auto runs = Runs();
  const std::vector<uint64_t> alone = DigestsOf(runs, nullptr);
  ThreadPool threads(3);
  DigestHelpers helpers(&threads, 3), inline_helper(Executor::Inline(), 1);
  for (int round = 0; round < 20; ++round) {
    EXPECT_EQ(DigestsOf(runs, &helpers), alone);
  }
  EXPECT_EQ(DigestsOf(runs, &inline_helper), alone);
}

// That it reads nothing AddressSanitizer sees.
TEST(ChunkedDigestsTest, HelpThatComesLateIsNotWaitedForAndReadsNothing) {
  HeldExecutor threads;
  DigestHelpers helpers(&threads, 2);
  auto runs = std::make_unique<std::vector<std::vector<std::byte>>>(Runs());
  EXPECT_EQ(DigestsOf(*runs, &helpers), DigestsOf(*runs, nullptr));
  runs = nullptr;
  EXPECT_EQ(threads.waiting(), 2);
  threads.RunAll();
}

TEST(ChunkedDigestsTest, NoMoreHelpIsAskedForThanMayWait) {
  HeldExecutor threads;
  DigestHelpers helpers(&threads, 2);
  for (int round = 0; round < 3; ++round) {
    DigestsOf({Bytes(5 * kDigestChunk)}, &helpers);
    EXPECT_EQ(threads.waiting(), 2);
  }
  threads.RunAll();
  DigestsOf({Bytes(5 * kDigestChunk)}, &helpers);
  EXPECT_EQ(threads.waiting(), 2);
}

TEST(ChunkedDigestsTest, ChunksThatAreKnownAreNotReadAgain) {
  const std::vector<std::byte> bytes = Bytes(3 * kDigestChunk + 5);
  ChunkedDigests digests({7, bytes.size()});
  EXPECT_EQ(digests.BytesLeft(), 7 + bytes.size());
  uint64_t* const known = digests.ChunksFrom(1, kDigestChunk);
  for (size_t i = 0; i < 3; ++i) {
    const uint64_t at = (i + 1) * kDigestChunk;
    known[i] = PortableXxh3(bytes.data() + at,
                            std::min(kDigestChunk, bytes.size() - at));
  }
  EXPECT_EQ(digests.BytesLeft(), 7 + kDigestChunk);
  // What would be found there is not what was known.
  std::vector<std::byte> changed = bytes;
  changed.back() ^= std::byte{1};
  changed[kDigestChunk] ^= std::byte{1};
  digests.Add(1, changed.data(), 0, changed.size());
  digests.Compute();
  EXPECT_EQ(digests.Take(), (std::vector<uint64_t>{0, Want(bytes)}));
}

TEST(ChunkedDigestsTest, NobodyIsAskedToHelpWithAChunk) {
  HeldExecutor threads;
  DigestHelpers helpers(&threads, 2);
  DigestsOf({Bytes(kDigestChunk / 2), Bytes(kDigestChunk / 2)}, &helpers);
  EXPECT_EQ(threads.waiting(), 0);
}

TEST(ChunkedDigestsTest, AreComputedWithoutHelpWhereNoneCanBeHad) {
  struct Full : Executor {
    void Run(Task) override { throw std::bad_alloc(); }
  } full;
  DigestHelpers helpers(&full, 2);
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(DigestsOf(Runs(), &helpers), DigestsOf(Runs(), nullptr));
  }
}

TEST(ChunkedDigestsTest, AreTheSameOfRunsThatComeChunkByChunk) {
  const auto runs = Runs();
  for (const uint64_t step : {kDigestChunk, 2 * kDigestChunk}) {
    ChunkedDigests digests(LengthsOf(runs));
    for (size_t i = 0; i < runs.size(); ++i) {
      uint64_t from = 0;
      for (; from + step < runs[i].size(); from += step) {
        digests.Add(i, runs[i].data(), from, from + step);
        digests.Compute();
      }
      digests.Add(i, runs[i].data(), from, runs[i].size());
    }
    digests.Compute();
    EXPECT_EQ(digests.Take(), DigestsOf(runs, nullptr));
  }
}

TEST(ChunkedDigestsTest, WhatWasNotAddedHasNone) {
  ChunkedDigests digests({0, 10, 3 * kDigestChunk});
  digests.Compute();
  EXPECT_EQ(digests.Take(), (std::vector<uint64_t>{0, 0, 0}));
}

}  // namespace
}  // namespace tensorferry
