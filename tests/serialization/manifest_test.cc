#include "serialization/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <limits>
#include <sstream>

#include "tensorferry/serialization/manifest.pb.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

std::string Bytes(std::initializer_list<int> values) {
  return std::string(values.begin(), values.end());
}

int Code(TensorKind kind) { return static_cast<int>(kind); }
int Code(Dtype dtype) { return static_cast<int>(dtype); }

// One of each: a dense "w" and an alias of its second half, transposed, on
// cuda:1; a coalesced COO, a per-tensor and a per-channel quantised tensor;
// a payload.
ManifestColumns Sample() {
  ManifestColumns c;
  c.type = 7;
  c.id = -3;
  c.payload_nbytes = 11;
  c.kinds = Bytes({Code(TensorKind::kDense), Code(TensorKind::kDense),
                   Code(TensorKind::kCoo), Code(TensorKind::kPerTensorAffine),
                   Code(TensorKind::kPerChannelAffine)});
  c.tensor_flags = Bytes({kRequiresGrad, 0, kCoalesced, 0, 0});
  c.name_lengths = {1, 3, 1, 1, 1};
  c.names = "walispq";
  c.dtypes =
      Bytes({Code(Dtype::kFloat32), Code(Dtype::kFloat32),
             Code(Dtype::kBfloat16), Code(Dtype::kInt64), Code(Dtype::kQint8),
             Code(Dtype::kQuint8), Code(Dtype::kFloat64), Code(Dtype::kInt64)});
  c.view_flags = Bytes({0, kStrided | kNeg, 0, 0, 0, 0, 0, 0});
  c.ranks = Bytes({2, 2, 1, 2, 1, 2, 1, 1});
  c.view_storages = {0, 0, 1, 2, 3, 4, 5, 6};
  c.offsets = {0, 10, 0, 0, 0, 0, 0, 0};
  c.sizes = {5, 4, 5, 2, 3, 2, 3, 9, 2, 4, 2, 2};
  c.strides = {1, 5};
  c.sparse_ranks = Bytes({2});
  c.sparse_sizes = {6, 6};
  c.scales = {0.5};
  c.zero_points = {-10};
  c.axes = {0};
  c.storage_nbytes = {80, 6, 48, 9, 8, 16, 16};
  c.storage_buffers = {0, 1, 1, 1, 1, 1, 1};
  c.buffer_sources = {0, 0};
  c.buffer_targets = {1, 0};
  c.devices = {{"cpu", 0}, {"cuda", 1}};
  return c;
}

Manifest SampleManifest() {
  auto manifest = Manifest::Create(Sample(), Limits());
  EXPECT_THAT(manifest, IsOk());
  return *manifest;
}

TEST(ManifestTest, ReadsAsItWasBuilt) {
  Manifest m = SampleManifest();
  EXPECT_EQ(m.tensor_count(), 5);
  EXPECT_EQ(m.tensor_name(1), "ali");
  EXPECT_EQ(m.FindTensor("q"), 4);
  EXPECT_EQ(m.FindTensor("z"), -1);
  EXPECT_EQ(m.dtype(2), Dtype::kBfloat16);
  EXPECT_THAT(m.sizes(2), ElementsAre(6, 6));
  EXPECT_TRUE(m.has_flag(2, kCoalesced));
  Manifest::View alias = m.view(m.first_view(1));
  EXPECT_EQ(alias.storage, 0);
  EXPECT_EQ(alias.offset, 10);
  EXPECT_TRUE(alias.neg);
  EXPECT_THAT(alias.strides, ElementsAre(1, 5));
  EXPECT_TRUE(m.view(0).strides.empty());
  EXPECT_EQ(m.scale(3), 0.5);
  EXPECT_EQ(m.zero_point(3), -10);
  EXPECT_EQ(m.axis(4), 0);
}

TEST(ManifestTest, PlacesStoragesInTheirBuffers) {
  Manifest m = SampleManifest();
  ASSERT_EQ(m.buffer_count(), 3);
  EXPECT_EQ(ToString(m.storage(0).target), "cuda:1");
  EXPECT_EQ(m.storage(1).at, 0u);
  EXPECT_EQ(m.storage(2).at, 64u);
  EXPECT_EQ(m.storage(3).at, 128u);
  EXPECT_EQ(m.buffer_nbytes(1), 64u * 5 + 16);
  EXPECT_EQ(m.buffer_storages(1), 6);
  EXPECT_EQ(m.buffer_nbytes(2), 11u);
  EXPECT_TRUE(m.buffer_target(2).is_cpu());
  EXPECT_EQ(m.BytesOnWire(), 80u + 336 + 11);
}

TEST(ManifestTest, DecodesWhatItEncodes) {
  Manifest m = SampleManifest();
  std::string bytes = EncodeManifest(m);
  FERRY_ASSERT_OK_AND_ASSIGN(Manifest decoded, DecodeManifest(bytes, Limits()));
  EXPECT_EQ(EncodeManifest(decoded), bytes);
  EXPECT_EQ(decoded.FindTensor("ali"), 1);
  EXPECT_EQ(decoded.type(), 7u);
  EXPECT_EQ(decoded.id(), -3);
}

TEST(ManifestTest, AnEmptyOneIsAManifest) {
  FERRY_ASSERT_OK_AND_ASSIGN(
      Manifest decoded, DecodeManifest(EncodeManifest(Manifest()), Limits()));
  EXPECT_EQ(decoded.tensor_count(), 0);
  EXPECT_EQ(decoded.BytesOnWire(), 0u);
  EXPECT_EQ(decoded.buffer_count(), 0);
}

// A CSR tensor, and a BSC tensor whose blocks are transposed, for two devices.
ManifestColumns CompressedSample() {
  ManifestColumns c;
  c.type = 9;
  c.id = 5;
  c.kinds = Bytes({Code(TensorKind::kCsr), Code(TensorKind::kBsc)});
  c.tensor_flags = Bytes({0, kRequiresGrad});
  c.dtypes =
      Bytes({Code(Dtype::kFloat64), Code(Dtype::kInt32), Code(Dtype::kInt32),
             Code(Dtype::kFloat32), Code(Dtype::kInt64), Code(Dtype::kInt64)});
  c.view_flags = Bytes({0, 0, 0, kStrided, 0, 0});
  c.ranks = Bytes({1, 1, 1, 3, 1, 1});
  c.view_storages = {0, 1, 2, 3, 4, 5};
  c.offsets = {0, 0, 0, 0, 0, 0};
  c.sizes = {3, 4, 3, 2, 2, 3, 3, 2};
  c.strides = {6, 1, 2};
  c.sparse_ranks = Bytes({2, 2});
  c.sparse_sizes = {3, 3, 4, 6};
  c.storage_nbytes = {24, 16, 12, 48, 24, 16};
  c.storage_buffers = {0, 0, 0, 1, 1, 1};
  c.buffer_sources = {0, 0};
  c.buffer_targets = {1, 0};
  c.devices = {{"cpu", 0}, {"cuda", 1}};
  return c;
}

std::string Golden(const char* name) {
  std::ifstream file(std::string("tests/serialization/golden/") + name,
                     std::ios::binary);
  std::stringstream golden;
  golden << file.rdbuf();
  return golden.str();
}

// Peers of earlier releases send and expect these bytes. If this test fails,
// the format has changed: it needs a new version, not a new file.
TEST(ManifestTest, Version1BytesAreGolden) {
  std::string golden = Golden("manifest_v1.bin");
  EXPECT_EQ(EncodeManifest(SampleManifest()), golden);
  EXPECT_THAT(DecodeManifest(golden, Limits()), IsOk());
  golden = Golden("manifest_v1_compressed.bin");
  FERRY_ASSERT_OK_AND_ASSIGN(Manifest compressed,
                             Manifest::Create(CompressedSample(), Limits()));
  EXPECT_EQ(EncodeManifest(compressed), golden);
  FERRY_ASSERT_OK_AND_ASSIGN(Manifest decoded,
                             DecodeManifest(golden, Limits()));
  EXPECT_THAT(decoded.sizes(1), ElementsAre(4, 6));
}

// Each lie is one change to a manifest that is fine without it.
struct Lie {
  const char* name;
  std::function<void(ManifestColumns&)> tell;
  const char* error;
};

class LyingManifestTest : public ::testing::TestWithParam<Lie> {};

TEST_P(LyingManifestTest, IsRefused) {
  ManifestColumns columns = Sample();
  GetParam().tell(columns);
  EXPECT_THAT(Manifest::Create(std::move(columns), Limits()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr(GetParam().error)));
}

constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
using C = ManifestColumns;

INSTANTIATE_TEST_SUITE_P(
    Tensors, LyingManifestTest,
    ::testing::Values(
        Lie{"kind", [](C& c) { c.kinds[0] = 8; }, "unknown kind 8"},
        Lie{"kind_negative", [](C& c) { c.kinds[0] = -1; }, "unknown kind 255"},
        Lie{"flag", [](C& c) { c.tensor_flags[0] = 4; }, "flags"},
        Lie{"coalesced_dense", [](C& c) { c.tensor_flags[0] = kCoalesced; },
            "flags"},
        Lie{"flags_short", [](C& c) { c.tensor_flags.pop_back(); },
            "tensor_flags has 4"},
        Lie{"grad_of_integers",
            [](C& c) {
              c.dtypes[0] = c.dtypes[1] = Code(Dtype::kInt32),
              c.view_flags[1] = kStrided;
            },
            "requires grad"},
        Lie{"names_short", [](C& c) { c.name_lengths.pop_back(); },
            "name_lengths has 4"},
        Lie{"name_empty",
            [](C& c) {
              c.name_lengths = {0, 4, 1, 1, 1};
            },
            "empty name"},
        Lie{"names_sum", [](C& c) { c.names += "x"; }, "names have 8 bytes"},
        Lie{"names_beyond", [](C& c) { c.name_lengths[4] = 4000; },
            "names have 7 bytes"},
        Lie{"names_equal", [](C& c) { c.names = "walispp"; }, "same name"}),
    [](const auto& info) { return info.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Views, LyingManifestTest,
    ::testing::Values(
        Lie{"dtype_none", [](C& c) { c.dtypes[0] = 0; }, "unknown dtype 0"},
        Lie{"dtype_unknown", [](C& c) { c.dtypes[0] = 48; },
            "tensor 0 \"w\" has the unknown dtype 48"},
        Lie{"dtypes_short", [](C& c) { c.dtypes.pop_back(); }, "dtypes has 7"},
        Lie{"view_flag", [](C& c) { c.view_flags[0] = 8; }, "view flags"},
        Lie{"conj_of_real", [](C& c) { c.view_flags[0] = kConj; },
            "view flags"},
        Lie{"neg_of_bool", [](C& c) { c.dtypes[1] = Code(Dtype::kBool); },
            "view flags"},
        Lie{"neg_of_bits", [](C& c) { c.dtypes[1] = Code(Dtype::kBits16); },
            "view flags"},
        Lie{"neg_of_quantised", [](C& c) { c.view_flags[4] = kNeg; },
            "view flags"},
        Lie{"neg_of_indices", [](C& c) { c.view_flags[3] = kNeg; },
            "view flags"},
        Lie{"neg_of_scales", [](C& c) { c.view_flags[6] = kNeg; },
            "view flags"},
        Lie{"ranks_short", [](C& c) { c.ranks.pop_back(); }, "ranks has 7"},
        Lie{"rank_more", [](C& c) { c.ranks[0] = 3; }, "sizes has 12"},
        Lie{"size_more", [](C& c) { c.sizes.push_back(1); }, "sizes has 13"},
        Lie{"size_negative", [](C& c) { c.sizes[0] = -5; },
            "tensor 0 \"w\" has sizes [-5, 4]"},
        Lie{"size_overflow", [](C& c) { c.sizes[0] = c.sizes[1] = kMost; },
            "describe no float32"},
        Lie{"size_beyond", [](C& c) { c.sizes[0] = 6; },
            "reaches byte 96 of storage 0, which has 80"},
        Lie{"stride_negative", [](C& c) { c.strides[0] = -1; }, "strides [-1"},
        Lie{"stride_overflow", [](C& c) { c.strides[0] = kMost; },
            "describe no"},
        Lie{"stride_beyond", [](C& c) { c.strides[0] = 2; }, "reaches byte"},
        Lie{"stride_more", [](C& c) { c.strides.push_back(1); },
            "strides has 3"},
        Lie{"offset_negative", [](C& c) { c.offsets[0] = -1; }, "offset -1"},
        Lie{"offset_beyond", [](C& c) { c.offsets[1] = 11; }, "reaches byte"},
        Lie{"offset_overflow", [](C& c) { c.offsets[1] = kMost; },
            "describe no"},
        Lie{"offsets_short", [](C& c) { c.offsets.pop_back(); },
            "offsets has 7"},
        Lie{"storage_skipped", [](C& c) { c.view_storages[2] = 2; },
            "not numbered by first use"},
        Lie{"storage_beyond", [](C& c) { c.view_storages[7] = 7; },
            "not numbered by first use"},
        Lie{"storage_unused",
            [](C& c) {
              c.storage_nbytes.push_back(8);
              c.storage_buffers.push_back(1);
            },
            "8 storages, of which 7 are used"}),
    [](const auto& info) { return info.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Buffers, LyingManifestTest,
    ::testing::Values(
        Lie{"buffers_short", [](C& c) { c.storage_buffers.pop_back(); },
            "storage_buffers has 6"},
        Lie{"buffer_skipped", [](C& c) { c.storage_buffers[0] = 1; },
            "not numbered by first use"},
        Lie{"buffer_beyond", [](C& c) { c.storage_buffers[6] = 2; },
            "not numbered by first use"},
        Lie{"buffer_unused",
            [](C& c) {
              c.buffer_sources.push_back(0);
              c.buffer_targets.push_back(0);
            },
            "3 buffers, of which 2 are used"},
        Lie{"too_many_buffers",
            [](C& c) {
              c.buffer_sources.resize(9, 0);
              c.buffer_targets.resize(9, 0);
            },
            "9 buffers for 7 storages"},
        Lie{"targets_short", [](C& c) { c.buffer_targets.pop_back(); },
            "buffer_targets has 1"},
        Lie{"device_beyond", [](C& c) { c.buffer_targets[1] = 2; },
            "not numbered by first use"},
        Lie{"device_unused",
            [](C& c) {
              c.devices.push_back({"xpu", 0});
            },
            "3 devices, of which 2 are used"},
        Lie{"device_twice",
            [](C& c) {
              c.devices[1] = {"cpu", 0};
            },
            "twice"},
        Lie{"device_bad",
            [](C& c) {
              c.devices[1] = {"CUDA", 0};
            },
            "not a device"},
        Lie{"device_index",
            [](C& c) {
              c.devices[1] = {"cuda", 999};
            },
            "not a device"}),
    [](const auto& info) { return info.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Composites, LyingManifestTest,
    ::testing::Values(
        Lie{"indices_dtype", [](C& c) { c.dtypes[3] = Code(Dtype::kFloat64); },
            "indices of dtype float64"},
        Lie{"nnz_differs", [](C& c) { c.sizes[4] = 2; }, "indices of sizes"},
        Lie{"sparse_dim", [](C& c) { c.sparse_sizes[0] = -1; }, "sizes [-1"},
        Lie{"sparse_rank",
            [](C& c) {
              c.sparse_ranks = Bytes({1});
              c.sparse_sizes = {6};
            },
            "indices of sizes"},
        Lie{"sparse_ranks_more",
            [](C& c) {
              c.sparse_ranks = Bytes({1, 1});
            },
            "sparse_ranks has 2"},
        Lie{"quantised_dtype", [](C& c) { c.dtypes[4] = Code(Dtype::kUint8); },
            "quantised"},
        Lie{"plain_qint", [](C& c) { c.dtypes[0] = Code(Dtype::kQint32); },
            "quantised"},
        Lie{"scales_more", [](C& c) { c.scales.push_back(1); }, "scales has 2"},
        Lie{"axis_beyond", [](C& c) { c.axes[0] = 2; }, "along axis 2"},
        Lie{"axis_wrong", [](C& c) { c.axes[0] = 1; }, "along axis 1"},
        Lie{"scales_dtype", [](C& c) { c.dtypes[6] = Code(Dtype::kInt64); },
            "scales of dtype int64"}),
    [](const auto& info) { return info.param.name; });

void ExpectOverLimit(Limits limits, const char* name) {
  EXPECT_THAT(DecodeManifest(EncodeManifest(SampleManifest()), limits),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr(name)));
}

TEST(ManifestLimitsTest, EachIsNamed) {
  Limits limits;
  limits.tensors = 4;
  ExpectOverLimit(limits, "tensors");
  limits = {};
  limits.rank = 1;
  ExpectOverLimit(limits, "rank");
  limits = {};
  limits.name_bytes = 2;
  ExpectOverLimit(limits, "name_bytes");
  limits = {};
  limits.manifest_bytes = 10;
  ExpectOverLimit(limits, "manifest_bytes");
  limits = {};
  limits.message_bytes = 426;
  ExpectOverLimit(limits, "message_bytes");
  limits.message_bytes = 427;
  limits.payload_bytes = 10;
  ExpectOverLimit(limits, "payload_bytes");
  limits.payload_bytes = 11;
  EXPECT_THAT(DecodeManifest(EncodeManifest(SampleManifest()), limits), IsOk());
}

TEST(ManifestLimitsTest, SumsOfHugeStoragesDoNotWrap) {
  ManifestColumns columns = Sample();
  columns.storage_nbytes[0] = std::numeric_limits<uint64_t>::max();
  EXPECT_THAT(Manifest::Create(columns, Limits()),
              StatusIs(absl::StatusCode::kResourceExhausted));
  Limits unlimited;
  unlimited.message_bytes = std::numeric_limits<uint64_t>::max();
  columns.storage_nbytes[1] = std::numeric_limits<uint64_t>::max() - 100;
  EXPECT_THAT(Manifest::Create(columns, unlimited),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

absl::Status Decode(const std::function<void(wire::v1::Manifest&)>& change) {
  wire::v1::Manifest wire;
  EXPECT_TRUE(wire.ParseFromString(EncodeManifest(SampleManifest())));
  change(wire);
  return DecodeManifest(wire.SerializeAsString(), Limits()).status();
}

TEST(DecodeManifestTest, RefusesOtherVersionsNamingBoth) {
  EXPECT_THAT(Decode([](auto& wire) { wire.set_version(2); }),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("version 2"), HasSubstr("reads 1"))));
  EXPECT_THAT(
      DecodeManifest("", Limits()),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("version 0")));
}

TEST(DecodeManifestTest, RefusesNumbersThatDoNotFit) {
  EXPECT_THAT(
      Decode([](auto& wire) { wire.set_sizes(0, uint64_t{1} << 63); }),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("sizes [-")));
}

TEST(DecodeManifestTest, RefusesBadDevices) {
  for (const char* devices :
       {"cpu", "cpu,cuda:1,", "cpu,cuda:01", "cpu:0,cuda:1", "cpu;cuda:1"}) {
    EXPECT_THAT(Decode([&](auto& wire) { wire.set_devices(devices); }),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << devices;
  }
}

TEST(DecodeManifestTest, ReadsWhatProtobufWritesAndTheOtherWayRound) {
  std::string bytes = EncodeManifest(SampleManifest());
  wire::v1::Manifest wire;
  ASSERT_TRUE(wire.ParseFromString(bytes));
  EXPECT_EQ(wire.names(), "walispq");
  EXPECT_EQ(wire.id(), -3);
  EXPECT_EQ(wire.zero_points(0), -10);
  EXPECT_EQ(wire.scales(0), 0.5);
  EXPECT_EQ(wire.SerializeAsString(), bytes);
}

TEST(DecodeManifestTest, RefusesFieldsOutOfOrderOrTwice) {
  std::string bytes = EncodeManifest(SampleManifest());
  EXPECT_THAT(DecodeManifest(bytes + "\xf8\x01\x01", Limits()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("field 31 after 31")));
  EXPECT_THAT(DecodeManifest(bytes + "\x10\x07", Limits()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("field 2 after 31")));
}

TEST(DecodeManifestTest, RefusesBrokenVarints) {
  const std::string endless(11, '\xff');
  for (const std::string& field :
       {std::string("\x10"), std::string("\x10\xff"), "\x10" + endless,
        "\x72\x0b" + endless, std::string("\x72\x02\xff\xff"),
        std::string("\x72\x7f\x01"), std::string("\x92\x01\x01\x01"),
        std::string("\x10\x80\x80\x80\x80\x10"),  // 2^32 as a type
        std::string("\x11\x01"), endless}) {
    EXPECT_THAT(DecodeManifest(field, Limits()),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("not a manifest")));
  }
}

TEST(DecodeManifestTest, CountsEntriesBeforeItTakesMemoryForThem) {
  Limits limits;
  limits.tensors = 10;
  limits.rank = 2;
  std::string sizes(61, '\x01');
  std::string bytes = "\x72\x3d" + sizes;
  EXPECT_THAT(DecodeManifest(bytes, limits),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("limit tensors")));
}

// Eight bytes each, most of which look like a varint's last.
TEST(DecodeManifestTest, AsManyScalesAsTensorsAreTaken) {
  ManifestColumns columns;
  Limits limits;
  limits.tensors = 100;
  columns.kinds.assign(100, static_cast<char>(TensorKind::kPerTensorAffine));
  columns.tensor_flags.assign(100, 0);
  columns.dtypes.assign(100, static_cast<char>(Dtype::kQint8));
  columns.view_flags.assign(100, 0);
  columns.ranks.assign(100, 0);
  columns.view_storages.assign(100, 0);
  columns.offsets.assign(100, 0);
  columns.scales.assign(100, 0.5);
  columns.zero_points.assign(100, 0);
  columns.storage_nbytes = {1};
  columns.storage_buffers = {0};
  columns.buffer_sources = columns.buffer_targets = {0};
  columns.devices = {DeviceId()};
  FERRY_ASSERT_OK_AND_ASSIGN(Manifest manifest,
                             Manifest::Create(columns, limits));
  EXPECT_THAT(DecodeManifest(EncodeManifest(manifest), limits), IsOk());
}

TEST(ManifestTest, HasAtMost256Devices) {
  ManifestColumns columns = Sample();
  for (int i = 0; i < 255; ++i) columns.devices.push_back({"xpu", i});
  EXPECT_THAT(
      Manifest::Create(columns, Limits()),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("257 devices")));
}

TEST(DecodeManifestTest, RefusesFieldsItDoesNotKnow) {
  std::string bytes = EncodeManifest(SampleManifest());
  EXPECT_THAT(DecodeManifest(bytes + "\xf8\x07\x01", Limits()),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(DecodeManifestTest, RefusesAPickle) {
  // Of [1], as Python and libtorch write it.
  EXPECT_THAT(DecodeManifest(std::string("\x80\x02]q\x00K\x01\x61.", 9),
                             Limits()),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(DecodeManifestTest, RefusesEveryTruncation) {
  std::string bytes = EncodeManifest(SampleManifest());
  for (size_t n = 0; n < bytes.size(); ++n) {
    EXPECT_THAT(DecodeManifest(bytes.substr(0, n), Limits()),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << n;
  }
}

// Whatever the bytes: a status or a manifest that can be read.
TEST(DecodeManifestTest, SurvivesEveryFlippedBit) {
  std::string good = EncodeManifest(SampleManifest());
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bytes = good;
    bytes[bit / 8] ^= static_cast<char>(1 << (bit % 8));
    auto manifest = DecodeManifest(bytes, Limits());
    if (!manifest.ok()) continue;
    for (int t = 0; t < manifest->tensor_count(); ++t) {
      manifest->sizes(t);
      manifest->Describe(t);
    }
  }
}

TEST(ManifestTest, ShowsNamesOfPeersEscapedAndCut) {
  ManifestColumns columns = Sample();
  std::string name(500, '\n');
  columns.name_lengths[0] = 500;
  columns.names = name + columns.names.substr(1);
  FERRY_ASSERT_OK_AND_ASSIGN(Manifest m, Manifest::Create(columns, Limits()));
  EXPECT_LT(m.Describe(0).size(), 600u);
  EXPECT_EQ(m.Describe(0).find('\n'), std::string::npos);
}

}  // namespace
}  // namespace tensorferry
