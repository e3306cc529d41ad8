#include "serialization/allocate.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "serialization/destinations.h"
#include "serialization/shared_region.h"
#include "serialization/torch_errors.h"
#include "serialization/torch_types.h"

namespace tensorferry {

class Allocator {
 public:
  Allocator(Manifest manifest, AllocateOptions options)
      : options_(std::move(options)),
        converters_(ConverterRegistry::OrGlobal(options.converters)) {
    result_.manifest_ = std::move(manifest);
  }

  absl::StatusOr<ReadBuffers> Run() {
    FERRY_RETURN_IF_ERROR(CheckLimits());
    FERRY_RETURN_IF_ERROR(PlanInto());
    FERRY_RETURN_IF_ERROR(FindRegions());
    FERRY_RETURN_IF_ERROR(Fill());
    return std::move(result_);
  }

 private:
  const Manifest& manifest() const { return result_.manifest_; }

  absl::Status CheckLimits() const;
  absl::Status PlanInto();
  absl::Status FindRegions();
  absl::StatusOr<Region> RegionOn(const DeviceId& target) const;
  absl::Status Fill();
  bool HasTarget(int storage) const {
    return !plan_.targets.empty() && plan_.targets[storage].storage;
  }
  absl::StatusOr<c10::DataPtr> Memory(int buffer);
  c10::Storage StorageOn(c10::DataPtr memory, int storage) const;
  absl::Status FillPayload();

  AllocateOptions options_;
  const ConverterRegistry& converters_;
  DestinationPlan plan_;
  ReadBuffers result_;
};

// The manifest was checked against the limits of whoever decoded it.
absl::Status Allocator::CheckLimits() const {
  if (manifest().BytesOnWire() > options_.limits.message_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("message of ", manifest().BytesOnWire(),
                     " bytes, over the limit message_bytes of ",
                     options_.limits.message_bytes));
  }
  if (manifest().payload_nbytes() > options_.limits.payload_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("payload of ", manifest().payload_nbytes(),
                     " bytes, over the limit payload_bytes of ",
                     options_.limits.payload_bytes));
  }
  if (static_cast<uint32_t>(manifest().tensor_count()) >
      options_.limits.tensors) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "message of ", manifest().tensor_count(),
        " tensors, over the limit tensors of ", options_.limits.tensors));
  }
  return absl::OkStatus();
}

absl::Status Allocator::PlanInto() {
  if (options_.into.empty() && options_.into.names.empty()) {
    return absl::OkStatus();
  }
  return CatchTorchErrors(
      absl::StatusCode::kInvalidArgument, [] { return "destination"; },
      [this]() -> absl::Status {
        FERRY_ASSIGN_OR_RETURN(
            plan_, PlanDestinations(manifest(), std::move(options_.into)));
        return absl::OkStatus();
      });
}

// Devices, converters and streams of all buffers, before any memory is taken.
// Buffers are many, devices few: each device is looked up once in a run.
absl::Status Allocator::FindRegions() {
  result_.regions_.resize(manifest().buffer_count());
  const DeviceId* target = nullptr;
  Region found;
  for (int b = 0; b < manifest().buffer_count(); ++b) {
    if (target != &manifest().buffer_target(b)) {
      target = &manifest().buffer_target(b);
      FERRY_ASSIGN_OR_RETURN(found, RegionOn(*target));
    }
    result_.regions_[b] = found;
    result_.regions_[b].nbytes = manifest().buffer_nbytes(b);
  }
  return absl::OkStatus();
}

absl::StatusOr<Region> Allocator::RegionOn(const DeviceId& target) const {
  Region region;
  FERRY_ASSIGN_OR_RETURN(c10::Device device, TorchDeviceOf(target));
  FERRY_ASSIGN_OR_RETURN(region.converter, converters_.Find(device.type()));
  FERRY_ASSIGN_OR_RETURN(region.stream,
                         StreamForDevice(options_.streams, device));
  return region;
}

absl::Status Allocator::Fill() {
  int storages = manifest().storage_count();
  std::vector<std::unique_ptr<SharedRegion>> shared(manifest().buffer_count());
  result_.storages_.resize(storages);
  for (int s = 0; s < storages; ++s) {
    int buffer = manifest().storage_buffer(s);
    Region& region = result_.regions_[buffer];
    if (manifest().buffer_storages(buffer) == 1) {
      if (HasTarget(s)) {
        region.data = plan_.targets[s].data();
        continue;
      }
      FERRY_ASSIGN_OR_RETURN(c10::DataPtr memory, Memory(buffer));
      result_.storages_[s] = StorageOn(std::move(memory), s);
      continue;
    }
    if (shared[buffer] == nullptr) {
      FERRY_ASSIGN_OR_RETURN(c10::DataPtr memory, Memory(buffer));
      shared[buffer] = std::make_unique<SharedRegion>(std::move(memory));
      result_.packed_.push_back(shared[buffer]->Slice(0));
    }
    // Host bytes are copied to their target straight from the region.
    if (region.device().is_cpu() && HasTarget(s)) continue;
    result_.storages_[s] =
        StorageOn(shared[buffer]->Slice(manifest().storage_at(s)), s);
  }
  result_.destinations_ = std::move(plan_.by_tensor);
  result_.names_ = std::move(plan_.names);
  result_.targets_ = std::move(plan_.targets);
  result_.bounced_ = plan_.bounced;
  return FillPayload();
}

absl::StatusOr<c10::DataPtr> Allocator::Memory(int buffer) {
  Region& region = result_.regions_[buffer];
  const bool apart =
      std::binary_search(options_.apart.begin(), options_.apart.end(),
                         static_cast<uint32_t>(buffer));
  FERRY_ASSIGN_OR_RETURN(c10::DataPtr memory,
                         region.converter->AllocateToReceive(
                             region.nbytes, region.device(), region.stream,
                             apart ? options_.source_apart : options_.source));
  region.data = static_cast<std::byte*>(memory.get());
  return memory;
}

// With libtorch's allocator a storage can be resized by its user; it then
// leaves our memory.
c10::Storage Allocator::StorageOn(c10::DataPtr memory, int storage) const {
  c10::Allocator* allocator = c10::GetAllocator(memory.device().type());
  return c10::Storage(c10::Storage::use_byte_size_t(),
                      manifest().storage_nbytes(storage), std::move(memory),
                      allocator, /*resizable=*/true);
}

absl::Status Allocator::FillPayload() {
  uint64_t nbytes = manifest().payload_nbytes();
  if (nbytes == 0) return absl::OkStatus();
  result_.payload_ = std::make_unique<std::string>(nbytes, '\0');
  result_.regions_.back().data =
      reinterpret_cast<std::byte*>(result_.payload_->data());
  return absl::OkStatus();
}

absl::StatusOr<ReadBuffers> Allocate(Manifest manifest,
                                     AllocateOptions options) {
  return CatchTorchErrors(
      absl::StatusCode::kInternal, [] { return "allocating a message"; },
      [&] { return Allocator(std::move(manifest), std::move(options)).Run(); });
}

}  // namespace tensorferry
