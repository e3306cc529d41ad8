#include "serialization/serialize.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/StreamGuard.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "serialization/components.h"
#include "serialization/gather.h"
#include "serialization/name_table.h"
#include "serialization/strided.h"
#include "serialization/tensor_on_storage.h"
#include "serialization/torch_errors.h"
#include "serialization/torch_types.h"

namespace tensorferry {
namespace {

// Packed buffers are closed at this size, so that neither the copy made to
// send them nor the region that their receivers share grows without bound.
constexpr uint64_t kPackBytes = 4 << 20;

absl::Span<const int64_t> SpanOf(c10::IntArrayRef numbers) {
  return {numbers.data(), numbers.size()};
}

}  // namespace

// Works in passes over all views: collect them by storage, describe them,
// decide which buffer carries each storage, make the buffers ready.
class Serializer {
 public:
  Serializer(TensorMessage message, const SerializeOptions& options)
      : options_(options),
        converters_(ConverterRegistry::OrGlobal(options.converters)),
        message_(std::move(message)),
        places_by_name_(options.placement.HasNameRules()) {}

  absl::StatusOr<WriteBuffers> Run() {
    FERRY_RETURN_IF_ERROR(CheckNames());
    FERRY_RETURN_IF_ERROR(CatchTorchErrors(
        absl::StatusCode::kInvalidArgument, [this] { return Tensor(current_); },
        [this] { return CollectAndDescribe(); }));
    AssignBuffers();
    FERRY_ASSIGN_OR_RETURN(
        result_.manifest_,
        Manifest::Create(std::move(columns_), options_.limits));
    FERRY_RETURN_IF_ERROR(PrepareRegions());
    for (at::Tensor& tensor : message_.tensors) {
      result_.tensors_.push_back(std::move(tensor));
    }
    return std::move(result_);
  }

 private:
  // A storage, and the bytes of it that the message's views cover.
  struct Group {
    // Of a tensor that the result keeps: the caller's, or a gathered copy. Not
    // counted: that is a locked instruction for each of maybe many tensors.
    const c10::Storage* storage = nullptr;
    uint32_t views = 0;
    int first_tensor = 0;
    uint8_t source = 0, target = 0;  // into devices_
    uint8_t alignment = 1;           // the largest itemsize
    uint64_t begin = std::numeric_limits<uint64_t>::max();
    uint64_t end = 0;

    uint64_t nbytes() const { return end > begin ? end - begin : 0; }
  };
  struct View {
    const c10::TensorImpl* tensor;
    uint32_t group;
  };
  struct Device {
    c10::Device torch;
    const DeviceConverter* converter;  // null: only a target
    DeviceId id;
    int target;  // of storages on it; -1: not known
    int placed;  // the tensor that the target was asked for
    int column;  // its number in the manifest; -1: none yet
  };
  struct Pack {
    uint8_t source, target;
    uint32_t buffer;
    uint64_t nbytes;
  };

  std::string Tensor(int tensor) const {
    bool named = static_cast<size_t>(tensor) < message_.names.size();
    return DescribeTensor(tensor,
                          named ? message_.names[tensor] : absl::string_view());
  }
  absl::string_view NameOf(int tensor) const {
    return message_.names.empty() ? absl::string_view()
                                  : message_.names[tensor];
  }

  absl::Status CheckNames();
  absl::Status CollectAndDescribe();
  absl::Status Collect(int tensor);
  absl::Status CollectView(int tensor, const at::Tensor& view);
  absl::Status Place(int tensor, Group& group, bool is_new);
  absl::StatusOr<uint8_t> SourceOf(c10::Device device);
  absl::Status WaitUntilReady(const Device& device);
  absl::StatusOr<uint8_t> TargetOf(uint8_t source, int tensor);
  absl::StatusOr<uint8_t> InternDevice(const DeviceId& id);
  absl::Status Describe(const View& view);
  absl::Status KeepForCopy(const Group& group);
  void DescribeWindow(const DtypeInfo& dtype, const c10::TensorImpl& tensor,
                      uint8_t flags, Group& group);
  void MakeOffsetsRelative();
  void AssignBuffers();
  uint32_t BufferFor(const Group& group);
  uint32_t NewBuffer(const Group& group);
  uint32_t ColumnOf(uint8_t device);
  absl::Status PrepareRegions();
  absl::Status PreparePack(int buffer, int first_storage);
  absl::Status PackOnDevice(int buffer, int first_storage);
  absl::Status PrepareStorage(int buffer, int storage);
  absl::StatusOr<Region> RegionOn(c10::Device device);
  absl::Status PreparePayload();

  const SerializeOptions& options_;
  const ConverterRegistry& converters_;
  TensorMessage message_;
  const bool places_by_name_;
  int64_t match_steps_ = kMatchSteps;
  int current_ = 0;  // the tensor that is worked on, for messages
  std::vector<Device> devices_;
  std::vector<View> views_;
  std::vector<Group> groups_;
  absl::flat_hash_map<c10::StorageImpl*, uint32_t> group_of_;
  std::vector<Pack> packs_;
  ManifestColumns columns_;
  WriteBuffers result_;
};

absl::Status Serializer::CheckNames() {
  size_t names = message_.names.size();
  if (names != 0 && names != message_.tensors.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(names, " names for ", message_.tensors.size(),
                     " tensors; give none or one for each"));
  }
  columns_.name_lengths.reserve(names);
  size_t bytes = 0;
  for (const std::string& name : message_.names) bytes += name.size();
  columns_.names.reserve(bytes);
  for (const std::string& name : message_.names) {
    columns_.name_lengths.push_back(static_cast<uint32_t>(name.size()));
    columns_.names += name;
  }
  return absl::OkStatus();
}

absl::Status Serializer::CollectAndDescribe() {
  at::NoGradGuard no_grad;
  size_t tensors = message_.tensors.size();
  if (tensors > options_.limits.tensors) {
    return absl::ResourceExhaustedError(
        absl::StrCat(tensors, " tensors, over the limit tensors of ",
                     options_.limits.tensors));
  }
  columns_.type = message_.type;
  columns_.id = message_.id;
  columns_.payload_nbytes = message_.payload.size();
  group_of_.reserve(tensors);
  groups_.reserve(tensors);
  views_.reserve(tensors);
  for (current_ = 0; static_cast<size_t>(current_) < tensors; ++current_) {
    FERRY_RETURN_IF_ERROR(Collect(current_));
  }
  size_t view = 0;
  for (current_ = 0; static_cast<size_t>(current_) < tensors; ++current_) {
    int views = ViewsOf(static_cast<TensorKind>(columns_.kinds[current_]));
    for (int i = 0; i < views; ++i) {
      FERRY_RETURN_IF_ERROR(Describe(views_[view++]));
    }
  }
  MakeOffsetsRelative();
  return absl::OkStatus();
}

absl::Status Serializer::Collect(int index) {
  const at::Tensor& tensor = message_.tensors[index];
  auto kind = KindOf(tensor);
  if (!kind.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(Tensor(index), " ", kind.status().message()));
  }
  columns_.kinds.push_back(static_cast<char>(*kind));
  columns_.tensor_flags.push_back(tensor.requires_grad() ? kRequiresGrad : 0);
  if (*kind == TensorKind::kDense) return CollectView(index, tensor);
  for (at::Tensor& component : AppendComponents(tensor, *kind, &columns_)) {
    FERRY_RETURN_IF_ERROR(CollectView(index, component));
    result_.tensors_.push_back(std::move(component));
  }
  return absl::OkStatus();
}

absl::Status Serializer::CollectView(int tensor, const at::Tensor& view) {
  c10::StorageImpl* storage = view.storage().unsafeGetStorageImpl();
  auto [found, is_new] =
      group_of_.try_emplace(storage, static_cast<uint32_t>(groups_.size()));
  if (is_new) {
    groups_.emplace_back();
    groups_.back().storage = &view.storage();
    groups_.back().first_tensor = tensor;
  }
  Group& group = groups_[found->second];
  ++group.views;
  views_.push_back({view.unsafeGetTensorImpl(), found->second});
  return Place(tensor, group, is_new);
}

absl::Status Serializer::Place(int tensor, Group& group, bool is_new) {
  if (is_new) {
    FERRY_ASSIGN_OR_RETURN(group.source, SourceOf(group.storage->device()));
  } else if (!places_by_name_) {
    return absl::OkStatus();
  }
  FERRY_ASSIGN_OR_RETURN(uint8_t target, TargetOf(group.source, tensor));
  if (is_new) group.target = target;
  if (target == group.target) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      Tensor(group.first_tensor), " and ", Tensor(tensor),
      " share a storage, but are placed on ",
      ToString(devices_[group.target].id), " and ",
      ToString(devices_[target].id), "; place both on one device"));
}

absl::StatusOr<uint8_t> Serializer::SourceOf(c10::Device device) {
  for (size_t d = 0; d < devices_.size(); ++d) {
    if (devices_[d].torch == device) return static_cast<uint8_t>(d);
  }
  auto converter = converters_.Find(device.type());
  if (!converter.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(Tensor(current_), " is on ", device.str(), ": ",
                     converter.status().message()));
  }
  FERRY_ASSIGN_OR_RETURN(uint8_t known, InternDevice(DeviceIdOf(device)));
  devices_[known].torch = device;
  devices_[known].converter = *converter;
  FERRY_RETURN_IF_ERROR(WaitUntilReady(devices_[known]));
  return known;
}

// On the device: what carries its tensors comes after what makes them.
absl::Status Serializer::WaitUntilReady(const Device& device) {
  if (device.torch.is_cpu()) return absl::OkStatus();
  FERRY_ASSIGN_OR_RETURN(c10::Stream carrying,
                         StreamForDevice(options_.streams, device.torch));
  absl::StatusOr<c10::Stream> ready =
      StreamForDevice(options_.ready_on, device.torch);
  return device.converter->Order(
      ready.ok() ? *ready : CurrentStream(device.torch), carrying);
}

absl::StatusOr<uint8_t> Serializer::TargetOf(uint8_t source, int tensor) {
  const Device& known = devices_[source];
  if (known.target >= 0 && (!places_by_name_ || known.placed == tensor)) {
    return static_cast<uint8_t>(known.target);
  }
  auto target =
      options_.placement.TargetFor(known.id, NameOf(tensor), &match_steps_);
  if (!target.ok()) {
    return absl::Status(
        target.status().code(),
        absl::StrCat(Tensor(tensor), ": ", target.status().message()));
  }
  FERRY_ASSIGN_OR_RETURN(uint8_t device, InternDevice(*target));
  devices_[source].target = device;
  devices_[source].placed = tensor;
  return device;
}

absl::StatusOr<uint8_t> Serializer::InternDevice(const DeviceId& id) {
  for (size_t d = 0; d < devices_.size(); ++d) {
    if (devices_[d].id == id) return static_cast<uint8_t>(d);
  }
  if (devices_.size() == kMostDevices) {
    return absl::ResourceExhaustedError(
        absl::StrCat(Tensor(current_), ": more than ", kMostDevices,
                     " devices in one message"));
  }
  devices_.push_back({c10::Device(c10::kMeta), nullptr, id, -1, -1, -1});
  return static_cast<uint8_t>(devices_.size() - 1);
}

absl::Status Serializer::Describe(const View& view) {
  Group& group = groups_[view.group];
  const c10::TensorImpl* tensor = view.tensor;
  FERRY_ASSIGN_OR_RETURN(Dtype dtype,
                         DtypeOf(c10::typeMetaToScalarType(tensor->dtype())));
  uint8_t flags =
      (tensor->is_conj() ? kConj : 0) | (tensor->is_neg() ? kNeg : 0);
  absl::Status memory = CheckMemory(*tensor);
  if (!memory.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(Tensor(current_), " ", memory.message()));
  }
  if (group.views == 1 && devices_[group.source].converter->CanPack() &&
      IsWorthGathering(SpanOf(tensor->sizes()), SpanOf(tensor->strides()))) {
    FERRY_RETURN_IF_ERROR(KeepForCopy(group));
    FERRY_RETURN_IF_ERROR(CatchTorchErrors(
        absl::StatusCode::kInternal,
        [this] { return absl::StrCat("gathering ", Tensor(current_)); },
        [&]() -> absl::Status {
          c10::OptionalStreamGuard guard;
          if (!group.storage->device().is_cpu()) {
            FERRY_ASSIGN_OR_RETURN(Region region,
                                   RegionOn(group.storage->device()));
            guard.reset_stream(region.stream);
          }
          result_.tensors_.push_back(Gather(*tensor));
          return absl::OkStatus();
        }));
    tensor = result_.tensors_.back().unsafeGetTensorImpl();
    group.storage = &tensor->storage();
  }
  columns_.view_storages.push_back(view.group);
  columns_.dtypes.push_back(static_cast<char>(dtype));
  DescribeWindow(InfoOf(dtype), *tensor, flags, group);
  return absl::OkStatus();
}

// The copy from the group's storage may run later than it is given up.
absl::Status Serializer::KeepForCopy(const Group& group) {
  const Device& device = devices_[group.source];
  if (device.torch.is_cpu()) return absl::OkStatus();
  FERRY_ASSIGN_OR_RETURN(Region region, RegionOn(device.torch));
  FERRY_ASSIGN_OR_RETURN(
      SendBuffer read,
      region.converter->PrepareToSend(
          *group.storage, {0, group.storage->nbytes()}, region.stream));
  result_.prepared_.push_back(std::move(read));
  return absl::OkStatus();
}

void Serializer::DescribeWindow(const DtypeInfo& dtype,
                                const c10::TensorImpl& tensor, uint8_t flags,
                                Group& group) {
  absl::Span<const int64_t> sizes = SpanOf(tensor.sizes());
  absl::Span<const int64_t> strides = SpanOf(tensor.strides());
  if (AreContiguous(sizes, strides)) {
    strides = {};
  } else {
    flags |= kStrided;
    columns_.strides.insert(columns_.strides.end(), strides.begin(),
                            strides.end());
  }
  columns_.view_flags.push_back(static_cast<char>(flags));
  columns_.ranks.push_back(static_cast<char>(
      std::min<size_t>(sizes.size(), std::numeric_limits<uint8_t>::max())));
  columns_.sizes.insert(columns_.sizes.end(), sizes.begin(), sizes.end());
  int64_t offset = tensor.numel() == 0 ? 0 : tensor.storage_offset();
  columns_.offsets.push_back(offset);
  uint64_t end = 0;
  EndOf(dtype, offset, sizes, strides, &end);  // lies in memory, as checked
  if (end > 0) {
    uint64_t begin = static_cast<uint64_t>(offset) * dtype.itemsize;
    group.begin = std::min(group.begin, begin);
    group.end = std::max(group.end, end);
    group.alignment = std::max(group.alignment, dtype.itemsize);
  }
}

// Views of several dtypes may share a storage: it is cut where all of them
// still start on a whole element.
void Serializer::MakeOffsetsRelative() {
  for (Group& group : groups_) {
    if (group.end == 0) group.begin = 0;
    group.begin -= group.begin % group.alignment;
  }
  for (size_t v = 0; v < views_.size(); ++v) {
    if (columns_.offsets[v] == 0) continue;
    uint8_t itemsize = FindDtype(columns_.dtypes[v])->itemsize;
    columns_.offsets[v] -=
        static_cast<int64_t>(groups_[views_[v].group].begin / itemsize);
  }
}

void Serializer::AssignBuffers() {
  columns_.storage_nbytes.reserve(groups_.size());
  columns_.storage_buffers.reserve(groups_.size());
  for (const Group& group : groups_) {
    columns_.storage_nbytes.push_back(group.nbytes());
    columns_.storage_buffers.push_back(BufferFor(group));
  }
}

uint32_t Serializer::BufferFor(const Group& group) {
  uint64_t nbytes = group.nbytes();
  if (nbytes > options_.pack_below ||
      !devices_[group.source].converter->CanPack()) {
    return NewBuffer(group);
  }
  for (Pack& pack : packs_) {
    if (pack.source != group.source || pack.target != group.target) continue;
    uint64_t at =
        (pack.nbytes + kPackAlignment - 1) / kPackAlignment * kPackAlignment;
    if (at + nbytes > kPackBytes) {
      pack.buffer = NewBuffer(group);
      at = 0;
    }
    pack.nbytes = at + nbytes;
    return pack.buffer;
  }
  packs_.push_back({group.source, group.target, NewBuffer(group), nbytes});
  return packs_.back().buffer;
}

uint32_t Serializer::NewBuffer(const Group& group) {
  columns_.buffer_sources.push_back(ColumnOf(group.source));
  columns_.buffer_targets.push_back(ColumnOf(group.target));
  return static_cast<uint32_t>(columns_.buffer_sources.size() - 1);
}

uint32_t Serializer::ColumnOf(uint8_t device) {
  int& column = devices_[device].column;
  if (column < 0) {
    column = static_cast<int>(columns_.devices.size());
    columns_.devices.push_back(devices_[device].id);
  }
  return static_cast<uint32_t>(column);
}

absl::Status Serializer::PrepareRegions() {
  const Manifest& manifest = result_.manifest_;
  result_.regions_.resize(manifest.buffer_count());
  std::vector<bool> begun(manifest.buffer_count(), false);
  for (int s = 0; s < manifest.storage_count(); ++s) {
    int buffer = manifest.storage_buffer(s);
    if (!begun[buffer]) {
      FERRY_ASSIGN_OR_RETURN(result_.regions_[buffer],
                             RegionOn(groups_[s].storage->device()));
      if (manifest.buffer_storages(buffer) > 1) {
        FERRY_RETURN_IF_ERROR(PreparePack(buffer, s));
      }
      begun[buffer] = true;
    }
    if (manifest.buffer_storages(buffer) == 1) {
      FERRY_RETURN_IF_ERROR(PrepareStorage(buffer, s));
    }
  }
  return PreparePayload();
}

absl::StatusOr<Region> Serializer::RegionOn(c10::Device device) {
  Region region;
  FERRY_ASSIGN_OR_RETURN(region.converter, converters_.Find(device.type()));
  FERRY_ASSIGN_OR_RETURN(region.stream,
                         StreamForDevice(options_.streams, device));
  return region;
}

// Copies all storages of a buffer into one block. What lies between them is
// sent as well, so it must not be what the heap had there before.
absl::Status Serializer::PreparePack(int buffer, int first_storage) {
  const Manifest& manifest = result_.manifest_;
  Region& region = result_.regions_[buffer];
  region.nbytes = manifest.buffer_nbytes(buffer);
  if (region.nbytes == 0) return absl::OkStatus();  // all of them are empty
  if (!region.device().is_cpu()) return PackOnDevice(buffer, first_storage);
  c10::DataPtr block = c10::GetCPUAllocator()->allocate(region.nbytes);
  region.data = static_cast<std::byte*>(block.get());
  int left = manifest.buffer_storages(buffer);
  uint64_t end = 0;
  for (int s = first_storage; left > 0; ++s) {
    if (manifest.storage_buffer(s) != buffer) continue;
    uint64_t at = manifest.storage_at(s);
    uint64_t nbytes = groups_[s].nbytes();
    std::memset(region.data + end, 0, at - end);
    if (nbytes > 0) {
      std::memcpy(region.data + at,
                  static_cast<const std::byte*>(groups_[s].storage->data()) +
                      groups_[s].begin,
                  nbytes);
    }
    end = at + nbytes;
    --left;
  }
  result_.packed_.push_back(std::move(block));
  return absl::OkStatus();
}

// The same in the order of the carrying stream.
absl::Status Serializer::PackOnDevice(int buffer, int first_storage) {
  const Manifest& manifest = result_.manifest_;
  Region& region = result_.regions_[buffer];
  c10::StreamGuard guard(region.stream);
  at::Tensor block =
      at::zeros({static_cast<int64_t>(region.nbytes)},
                at::TensorOptions().dtype(c10::kByte).device(region.device()));
  region.data = static_cast<std::byte*>(block.data_ptr());
  int left = manifest.buffer_storages(buffer);
  for (int s = first_storage; left > 0; ++s) {
    if (manifest.storage_buffer(s) != buffer) continue;
    --left;
    const Group& group = groups_[s];
    if (group.nbytes() == 0) continue;
    FERRY_RETURN_IF_ERROR(KeepForCopy(group));
    auto at = static_cast<int64_t>(manifest.storage_at(s));
    auto nbytes = static_cast<int64_t>(group.nbytes());
    block.narrow(0, at, nbytes)
        .copy_(TensorOnStorage(*group.storage, c10::kByte,
                               static_cast<int64_t>(group.begin), {nbytes}, {}),
               /*non_blocking=*/true);
  }
  result_.tensors_.push_back(std::move(block));
  return absl::OkStatus();
}

absl::Status Serializer::PrepareStorage(int buffer, int storage) {
  Region& region = result_.regions_[buffer];
  const Group& group = groups_[storage];
  FERRY_ASSIGN_OR_RETURN(
      SendBuffer ready,
      region.converter->PrepareToSend(
          *group.storage, {group.begin, group.nbytes()}, region.stream));
  region.data = ready.data;
  region.nbytes = ready.nbytes;
  result_.prepared_.push_back(std::move(ready));
  return absl::OkStatus();
}

absl::Status Serializer::PreparePayload() {
  if (message_.payload.empty()) return absl::OkStatus();
  result_.payload_ = std::make_unique<std::string>(std::move(message_.payload));
  Region& region = result_.regions_.back();
  FERRY_ASSIGN_OR_RETURN(region, RegionOn(c10::Device(c10::kCPU)));
  region.data = reinterpret_cast<std::byte*>(result_.payload_->data());
  region.nbytes = result_.payload_->size();
  return absl::OkStatus();
}

void WriteBuffers::DropBytes() {
  regions_.clear();
  tensors_.clear();
  prepared_.clear();
  packed_.clear();
  payload_ = nullptr;
}

bool WriteBuffers::others_hold_memory() const {
  const bool has_copies = absl::c_any_of(
      prepared_, [](const SendBuffer& buffer) { return !!buffer.owner_data; });
  if (has_copies || (payload_ != nullptr && payload_->size() > kPackBytes)) {
    return false;
  }
  return absl::c_all_of(tensors_, [this](const at::Tensor& tensor) {
    const auto ours = absl::c_count_if(tensors_, [&](const at::Tensor& other) {
      return other.is_same(tensor);
    });
    return tensor.use_count() > static_cast<size_t>(ours);
  });
}

absl::StatusOr<WriteBuffers> Serialize(TensorMessage message,
                                       const SerializeOptions& options) {
  return CatchTorchErrors(
      absl::StatusCode::kInternal, [] { return "making a message ready"; },
      [&] { return Serializer(std::move(message), options).Run(); });
}

}  // namespace tensorferry
