// Version 1 of the frames, as bytes in the tree: they keep their meaning for
// ever. After a deliberate change of a value below (not of the format), write
// them anew:
//   bazel run //tests/transfer:frame_golden_test --
//       --write=$PWD/tests/transfer/golden
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <string>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "tests/testing/status_matchers.h"
#include "transfer/frame_codec.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::IsOk;
using ::testing::ElementsAre;

constexpr absl::string_view kFolder = "tests/transfer/golden";

HelloFrame Hello() {
  HelloFrame hello;
  hello.session_id = "00112233445566778899aabbccddeeff";
  hello.wire = "unix";
  hello.lane = 2;
  hello.generation = 300;
  hello.lanes = 5;
  hello.channels = {{"local", "cpu", 0, "boot/1000"}, {"ipc", "cuda", 7, "x"}};
  hello.given_up = {{"unix", absl::UnavailableError("refused")}};
  return hello;
}

HeaderFrame Header() {
  HeaderFrame header;
  header.operation = uint64_t{1} << 40;
  header.plan_digest = "plan";
  header.manifest = std::string("\0manifest\xff", 10);
  header.is_inline = true;
  header.envelope = {Envelope::Kind::kReply, ~uint64_t{0},
                     absl::NotFoundError("not here")};
  header.digests = {0, ~uint64_t{0}};
  return header;
}

HeaderFrame LendingHeader() {
  HeaderFrame header;
  header.operation = 7;
  header.plan_digest = "plan";
  header.manifest = "manifest";
  header.lent = {0, 300};
  return header;
}

// Every frame, by the name of its file.
std::map<std::string, std::string> Frames() {
  return {
      {"hello", EncodeFrame(Hello())},
      {"header", EncodeFrame(Header())},
      {"grant", EncodeFrame(GrantFrame{7})},
      {"refuse", EncodeFrame(RefuseFrame{7, absl::AbortedError("no")})},
      {"trailer", EncodeFrame(TrailerFrame{7, {5, 6}, {{0, 1}, {300, 2}}})},
      {"ack", EncodeFrame(AckFrame{7, absl::DataLossError("digest")})},
      {"cancel", EncodeFrame(CancelFrame{7, absl::CancelledError("c")})},
      {"reopen", EncodeFrame(ReopenFrame{2, 4})},
      {"reject", EncodeFrame(RejectFrame{absl::UnauthenticatedError("k")})},
      {"body", EncodeBodyTag({7, 2, 300, 1})},
      {"lending_header", EncodeFrame(LendingHeader())},
      {"leasing_grant", EncodeFrame(GrantFrame{7, true})},
      {"returned", EncodeFrame(ReturnedFrame{{7, 300}})},
  };
}

std::string Read(const std::string& name) {
  std::ifstream file(absl::StrCat(kFolder, "/", name, ".v1.bin"),
                     std::ios::binary);
  EXPECT_TRUE(file.good()) << name;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

template <class Kind>
Kind Parsed(const std::string& name) {
  absl::StatusOr<Frame> frame = DecodeFrame(Read(name), Limits());
  EXPECT_THAT(frame, IsOk()) << name;
  if (!frame.ok() || !std::holds_alternative<Kind>(*frame)) {
    ADD_FAILURE() << name << " is another frame";
    return Kind();
  }
  return std::get<Kind>(*std::move(frame));
}

TEST(FrameGoldenTest, FramesAreEncodedAsInVersion1) {
  for (const auto& [name, bytes] : Frames()) {
    EXPECT_EQ(bytes, Read(name)) << name;
  }
}

TEST(FrameGoldenTest, FramesOfLeasesOfVersion1AreUnderstood) {
  EXPECT_EQ(Parsed<HeaderFrame>("lending_header").lent, LendingHeader().lent);
  EXPECT_TRUE(Parsed<GrantFrame>("leasing_grant").leases);
  EXPECT_EQ(Parsed<ReturnedFrame>("returned").operations,
            (std::vector<uint64_t>{7, 300}));
}

TEST(FrameGoldenTest, HelloOfVersion1IsUnderstood) {
  auto hello = Parsed<HelloFrame>("hello");
  EXPECT_EQ(hello.session_id, Hello().session_id);
  EXPECT_EQ(hello.wire, Hello().wire);
  EXPECT_EQ(hello.lane, 2u);
  EXPECT_EQ(hello.generation, 300u);
  EXPECT_EQ(hello.wire_version, 1);
  EXPECT_EQ(hello.lanes, 5u);
  ASSERT_EQ(hello.channels.size(), 2u);
  EXPECT_EQ(hello.channels[0].name, "local");
  EXPECT_EQ(hello.channels[0].descriptor, "boot/1000");
  EXPECT_EQ(hello.channels[1].device_type, "cuda");
  EXPECT_EQ(hello.channels[1].device_index, 7);
  ASSERT_EQ(hello.given_up.size(), 1u);
  EXPECT_EQ(hello.given_up[0].path, "unix");
  EXPECT_EQ(hello.given_up[0].why, absl::UnavailableError("refused"));
}

TEST(FrameGoldenTest, HeaderOfVersion1IsUnderstood) {
  auto header = Parsed<HeaderFrame>("header");
  EXPECT_EQ(header.operation, uint64_t{1} << 40);
  EXPECT_EQ(header.plan_digest, "plan");
  EXPECT_EQ(header.manifest, Header().manifest);
  EXPECT_TRUE(header.is_inline);
  EXPECT_EQ(header.envelope.kind, Envelope::Kind::kReply);
  EXPECT_EQ(header.envelope.call, ~uint64_t{0});
  EXPECT_EQ(header.envelope.reply_error, absl::NotFoundError("not here"));
  EXPECT_THAT(header.digests, ElementsAre(0, ~uint64_t{0}));
}

TEST(FrameGoldenTest, FramesOfAnOperationOfVersion1AreUnderstood) {
  EXPECT_EQ(Parsed<GrantFrame>("grant").operation, 7u);
  EXPECT_EQ(Parsed<RefuseFrame>("refuse").operation, 7u);
  EXPECT_EQ(Parsed<RefuseFrame>("refuse").status, absl::AbortedError("no"));
  EXPECT_EQ(Parsed<TrailerFrame>("trailer").operation, 7u);
  EXPECT_THAT(Parsed<TrailerFrame>("trailer").digests, ElementsAre(5, 6));
  EXPECT_THAT(Parsed<TrailerFrame>("trailer").again,
              ElementsAre(BodyAttempt{0, 1}, BodyAttempt{300, 2}));
  EXPECT_EQ(Parsed<AckFrame>("ack").operation, 7u);
  EXPECT_EQ(Parsed<AckFrame>("ack").status, absl::DataLossError("digest"));
  EXPECT_EQ(Parsed<CancelFrame>("cancel").operation, 7u);
  EXPECT_EQ(Parsed<CancelFrame>("cancel").status, absl::CancelledError("c"));
  absl::StatusOr<BodyTag> body = DecodeBodyTag(Read("body"));
  ASSERT_THAT(body, IsOk());
  EXPECT_EQ(body->operation, 7u);
  EXPECT_EQ(body->generation, 2u);
  EXPECT_EQ(body->body, 300u);
  EXPECT_EQ(body->attempt, 1u);
}

TEST(FrameGoldenTest, FramesOfALaneOfVersion1AreUnderstood) {
  EXPECT_EQ(Parsed<ReopenFrame>("reopen").lane, 2u);
  EXPECT_EQ(Parsed<ReopenFrame>("reopen").generation, 4u);
  EXPECT_EQ(Parsed<RejectFrame>("reject").status,
            absl::UnauthenticatedError("k"));
}

void Write(absl::string_view folder) {
  for (const auto& [name, bytes] : Frames()) {
    std::string path = absl::StrCat(folder, "/", name, ".v1.bin");
    std::ofstream(path, std::ios::binary) << bytes;
    std::cout << path << "\n";
  }
}

}  // namespace
}  // namespace tensorferry

int main(int argc, char** argv) {
  ::testing::InitGoogleMock(&argc, argv);
  absl::string_view argument = argc > 1 ? argv[1] : "";
  if (absl::ConsumePrefix(&argument, "--write=")) {
    tensorferry::Write(argument);
    return 0;
  }
  return RUN_ALL_TESTS();
}
