#include "transport/frame.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "tests/testing/status_matchers.h"
#include "tests/transport/allocation_limit.h"

namespace tensorferry {
namespace {

using testing::IsOk;
using testing::StatusIs;

constexpr uint64_t kLongest = uint64_t{64} << 20;
constexpr uint64_t kFirstStep = FrameReader::kFirstStep;

std::vector<uint8_t> Header(uint64_t length) {
  std::vector<uint8_t> header(FrameHeader::kBytes);
  EncodeFrameHeader({.kind = FrameKind::kPacket, .length = length},
                    header.data());
  return header;
}

// Gives the reader what comes next, at most `most` bytes, as a connection does.
absl::StatusOr<size_t> Give(FrameReader& reader, const uint8_t* bytes,
                            size_t most) {
  iovec places[4];
  const int count = reader.Next(places, 4);
  if (count == 0) return reader.Take(bytes, most);
  size_t given = 0;
  for (int i = 0; i < count; ++i) {
    const size_t part = std::min(most - given, places[i].iov_len);
    std::memcpy(places[i].iov_base, bytes + given, part);
    given += part;
  }
  absl::Status status = reader.Received(given);
  if (!status.ok()) return status;
  return given;
}

TEST(FrameWriterTest, WhatGoesWithoutItsDescriptorIsOtherBytes) {
  FrameWriter writer;
  writer.AddBytesWith(7, "with", "none", 4);
  EXPECT_EQ(writer.NextDescriptor(), 7);
  writer.DropDescriptor();
  EXPECT_EQ(writer.NextDescriptor(), -1);
  iovec parts[4];
  ASSERT_EQ(writer.Next(parts, 4), 2);
  EXPECT_EQ(std::string(static_cast<char*>(parts[1].iov_base), 4), "none");
  EXPECT_EQ(writer.Sent(FrameHeader::kBytes + 4), 1);
}

TEST(FrameReaderTest, ABodyComesWholeWhateverItsLengthAndItsPieces) {
  for (const uint64_t length :
       {uint64_t{0}, uint64_t{1}, kFirstStep - 1, kFirstStep, kFirstStep + 1,
        2 * kFirstStep, 2 * kFirstStep + 1, 20 * kFirstStep + 7}) {
    for (const size_t piece : {size_t{7777}, size_t{1} << 20}) {
      std::vector<uint8_t> frame = Header(length);
      for (uint64_t i = 0; i < length; ++i) {
        frame.push_back(static_cast<uint8_t>(i * 7 >> 3));
      }
      FrameReader reader(kLongest);
      reader.ExpectAny(FrameKind::kPacket);
      for (size_t at = 0; at < frame.size();) {
        ASSERT_FALSE(reader.has_frame());
        auto given =
            Give(reader, frame.data() + at, std::min(piece, frame.size() - at));
        ASSERT_THAT(given, IsOk());
        at += *given;
      }
      ASSERT_TRUE(reader.has_frame());
      frame.erase(frame.begin(), frame.begin() + FrameHeader::kBytes);
      EXPECT_TRUE(reader.TakeFrame() == frame) << length << " by " << piece;
    }
  }
}

TEST(FrameReaderTest, ABodyTakesNoMoreThanTwiceWhatHasComeOfIt) {
  const std::vector<uint8_t> header = Header(kLongest);
  const std::vector<uint8_t> bytes(100000);
  FrameReader reader(kLongest);
  AllocationLimit allocations(2 * kLongest);
  reader.ExpectAny(FrameKind::kPacket);
  ASSERT_THAT(reader.Take(header.data(), header.size()), IsOk());
  EXPECT_LE(allocations.largest(), kFirstStep);
  for (uint64_t came = 0; came < kLongest;) {
    auto given = Give(
        reader, bytes.data(),
        static_cast<size_t>(std::min<uint64_t>(bytes.size(), kLongest - came)));
    ASSERT_THAT(given, IsOk());
    came += *given;
    ASSERT_LE(allocations.largest(), 2 * came + kFirstStep);
  }
  EXPECT_TRUE(reader.has_frame());
}

TEST(FrameReaderTest, ABodyThatFindsNoMemoryIsResourceExhausted) {
  const std::vector<uint8_t> header = Header(kLongest);
  const std::vector<uint8_t> bytes(kFirstStep);
  FrameReader reader(kLongest);
  AllocationLimit allocations(4 * kFirstStep);
  reader.ExpectAny(FrameKind::kPacket);
  absl::Status status = reader.Take(header.data(), header.size()).status();
  uint64_t came = 0;
  while (status.ok() && came < kLongest) {
    auto given = Give(reader, bytes.data(), bytes.size());
    status = given.status();
    came += given.ok() ? *given : 0;
  }
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted,
                               ::testing::HasSubstr(std::to_string(kLongest))));
}

}  // namespace
}  // namespace tensorferry
