#include "transfer/pieces.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace tensorferry {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<Piece> PiecesOf(const BodyCut& cut, size_t body) {
  absl::Span<const Piece> pieces = cut.PiecesOf(body);
  return {pieces.begin(), pieces.end()};
}

TEST(CutIntoBodiesTest, EmptyBuffersHaveNoPieces) {
  uint64_t sizes[] = {0, 0};
  EXPECT_THAT(CutIntoBodies(sizes, 100).bodies, IsEmpty());
  EXPECT_THAT(CutIntoBodies({}, 100).bodies, IsEmpty());
}

TEST(CutIntoBodiesTest, SmallBuffersTravelTogether) {
  uint64_t sizes[] = {10, 0, 20};
  BodyCut cut = CutIntoBodies(sizes, 100);
  ASSERT_EQ(cut.bodies.size(), 1u);
  EXPECT_EQ(cut.bodies[0].nbytes, 30u);
  EXPECT_THAT(PiecesOf(cut, 0), ElementsAre(Piece{0, 0, 10}, Piece{2, 0, 20}));
}

TEST(CutIntoBodiesTest, LargeBuffersAreCut) {
  uint64_t sizes[] = {250, 60};
  BodyCut cut = CutIntoBodies(sizes, 100);
  ASSERT_EQ(cut.bodies.size(), 4u);
  EXPECT_THAT(PiecesOf(cut, 0), ElementsAre(Piece{0, 0, 100}));
  EXPECT_THAT(PiecesOf(cut, 1), ElementsAre(Piece{0, 100, 100}));
  EXPECT_THAT(PiecesOf(cut, 2), ElementsAre(Piece{0, 200, 50}));
  EXPECT_THAT(PiecesOf(cut, 3), ElementsAre(Piece{1, 0, 60}));
}

TEST(CutIntoBodiesTest, ABodyHasAtMost64Pieces) {
  std::vector<uint64_t> sizes(65, 1);
  BodyCut cut = CutIntoBodies(sizes, 1000);
  ASSERT_EQ(cut.bodies.size(), 2u);
  EXPECT_EQ(cut.bodies[0].count, kMaxPiecesInBody);
  EXPECT_THAT(PiecesOf(cut, 1), ElementsAre(Piece{64, 0, 1}));
}

TEST(CutIntoBodiesTest, CoversEveryByteOnceWithinTheBounds) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 2000; ++round) {
    std::vector<uint64_t> sizes(random() % 200);
    for (uint64_t& size : sizes) size = random() % 300;
    const uint64_t most = 1 + random() % 200;
    BodyCut cut = CutIntoBodies(sizes, most);
    std::vector<uint64_t> covered(sizes.size());
    size_t pieces = 0;
    for (size_t body = 0; body < cut.bodies.size(); ++body) {
      uint64_t nbytes = 0;
      for (const Piece& piece : cut.PiecesOf(body)) {
        ASSERT_GT(piece.nbytes, 0u);
        ASSERT_EQ(piece.offset, covered[piece.buffer]);
        covered[piece.buffer] += piece.nbytes;
        nbytes += piece.nbytes;
        ++pieces;
      }
      ASSERT_EQ(nbytes, cut.bodies[body].nbytes);
      ASSERT_LE(nbytes, most);
      ASSERT_LE(cut.bodies[body].count, kMaxPiecesInBody);
    }
    ASSERT_EQ(covered, sizes);
    ASSERT_EQ(pieces, cut.pieces.size());
  }
}

TEST(CutIntoBodiesTest, WhatIsLentComesLastAndWhole) {
  uint64_t sizes[] = {250, 10, 60, 0, 5};
  BodyCut cut = CutIntoBodies(sizes, 100, std::vector<uint32_t>{0, 2, 3});
  ASSERT_EQ(cut.bodies.size(), 2u);
  EXPECT_EQ(cut.first_lent, 1u);
  EXPECT_THAT(PiecesOf(cut, 0), ElementsAre(Piece{1, 0, 10}, Piece{4, 0, 5}));
  EXPECT_THAT(PiecesOf(cut, 1), ElementsAre(Piece{0, 0, 250}, Piece{2, 0, 60}));
}

TEST(CutIntoBodiesTest, WhatIsLentHasBodiesOfItsOwn) {
  std::vector<uint64_t> sizes(1 + kMaxPiecesInBody + 1, 1000);
  sizes[0] = 1;
  std::vector<uint32_t> lent;
  for (uint32_t i = 1; i < sizes.size(); ++i) lent.push_back(i);
  BodyCut cut = CutIntoBodies(sizes, 1 << 20, lent);
  ASSERT_EQ(cut.bodies.size(), 3u);
  EXPECT_EQ(cut.first_lent, 1u);
  EXPECT_EQ(cut.bodies[1].nbytes, 1000 * kMaxPiecesInBody);
  EXPECT_EQ(cut.bodies[2].nbytes, 1000u);
}

}  // namespace
}  // namespace tensorferry
