#include "transfer/lendable_memory.h"

#include <ATen/EmptyTensor.h>
#include <ATen/ops/empty.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/Device.h>

#include <cstring>
#include <functional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/exception_status.h"
#include "base/home_process.h"
#include "base/user_code.h"
#include "pool/pool_budget.h"
#include "serialization/torch_errors.h"

namespace tensorferry {
namespace {

// A channel hands over few arenas.
constexpr uint64_t kArenaBytes = uint64_t{1} << 30;
// How often memory that was not used for a while is looked for.
constexpr absl::Duration kTrimEvery = absl::Seconds(10);

// Null: it has no storage.
const void* DataOf(const at::Tensor& tensor) {
  return tensor.defined() && tensor.has_storage() ? tensor.storage().data()
                                                  : nullptr;
}

absl::Status Lost() {
  return absl::UnavailableError(
      "a session ended before its peer has returned this tensor: the peer may "
      "read it for as long as it likes");
}

constexpr absl::string_view kWaiting = "what waits for a loan";

}  // namespace

// Of the pool: held by its tensor and by what is lent of it.
struct LendableMemory::Block {
  ~Block() {
    // In a child its locks may be held for ever.
    if (!home.IsThis()) return;
    if (auto memory = of.lock()) {
      absl::MutexLock lock(&memory->mu_);
      memory->blocks_.erase(taken.data);
    }
  }

  bool Has(const void* data) const {
    return std::less_equal<>()(taken.data, data) &&
           std::less<>()(data, static_cast<const void*>(taken.data + nbytes));
  }

  HomeProcess home;
  std::weak_ptr<const LendableMemory> of;
  BufferPool::Block taken;
  uint64_t nbytes = 0;
  // Guarded by the memory's mutex.
  int loans = 0;
  bool lost = false;
  std::vector<DoneStatus> waiting;
};

class LendableMemory::Allocator : public c10::Allocator {
 public:
  explicit Allocator(const LendableMemory* memory) : memory_(memory) {}

  c10::DataPtr allocate(size_t nbytes) override {
    return memory_->Take(nbytes);
  }
  void copy_data(void* to, const void* from, size_t nbytes) const override {
    std::memcpy(to, from, nbytes);
  }

 private:
  const LendableMemory* const memory_;
};

LendableMemory::LendableMemory(std::shared_ptr<PoolBudget> budget, Clock* clock)
    : pool_(BufferPool::Create({.budget = std::move(budget),
                                .peer = Arena::Peer::kReads,
                                .arena_bytes = kArenaBytes,
                                .clock = clock})),
      allocator_(std::make_unique<Allocator>(this)) {
  CatchExceptions("a thread for lendable memory", [&] {
    loop_ = std::make_unique<Loop>(clock);
    TrimLater(loop_.get());
  }).IgnoreError();
}

LendableMemory::~LendableMemory() {
  if (home_.IsThis()) return;
  static_cast<void>(loop_.release());  // a child has not its thread
}

std::shared_ptr<LendableMemory> LendableMemory::Create(
    std::optional<uint64_t> bytes, Clock* clock) {
  return std::shared_ptr<LendableMemory>(new LendableMemory(
      bytes ? std::make_shared<PoolBudget>(*bytes) : PoolBudget::OfProcess(),
      clock));
}

void LendableMemory::TrimLater(Loop* loop) {
  loop->RunAt(loop->clock()->Now() + kTrimEvery, [this, loop] {
    pool_->Trim();
    TrimLater(loop);
  });
}

c10::DataPtr LendableMemory::Take(uint64_t nbytes) const {
  if (nbytes < kSmallestBlock || !home_.IsThis()) {
    return c10::GetCPUAllocator()->allocate(nbytes);
  }
  absl::StatusOr<BufferPool::Block> taken = pool_->Take(nbytes);
  if (!taken.ok()) return c10::GetCPUAllocator()->allocate(nbytes);
  using Owner = std::shared_ptr<Block>;
  auto owner = std::make_unique<Owner>(std::make_shared<Block>());
  Block& block = **owner;
  block.taken = *std::move(taken);
  block.nbytes = nbytes;
  block.of = weak_from_this();
  {
    absl::MutexLock lock(&mu_);
    blocks_[block.taken.data] = *owner;
  }
  return {block.taken.data, owner.release(),
          [](void* context) { delete static_cast<Owner*>(context); },
          c10::Device(c10::kCPU)};
}

absl::StatusOr<at::Tensor> LendableMemory::Empty(at::IntArrayRef shape,
                                                 at::ScalarType dtype) const {
  return CatchTorchErrors(
      absl::StatusCode::kInvalidArgument,
      [&] { return absl::StrCat("a tensor of ", shape.size(), " dimensions"); },
      [&]() -> absl::StatusOr<at::Tensor> {
        at::detail::check_size_nonnegative(shape);
        const size_t nbytes = at::detail::computeStorageNbytesContiguous(
            shape, c10::elementSize(dtype));
        // A storage that its user resizes leaves our memory.
        c10::Storage storage(c10::Storage::use_byte_size_t(), nbytes,
                             Take(nbytes), c10::GetCPUAllocator(),
                             /*resizable=*/true);
        at::Tensor tensor = at::empty({0}, dtype);
        tensor.set_(std::move(storage), 0, shape);
        return tensor;
      });
}

std::shared_ptr<LendableMemory::Block> LendableMemory::Find(
    const void* data) const {
  if (!home_.IsThis()) return nullptr;
  std::shared_ptr<Block> block;  // may be the last to have it: not under mu_
  {
    absl::MutexLock lock(&mu_);
    auto found = blocks_.upper_bound(data);
    if (found == blocks_.begin()) return nullptr;
    block = std::prev(found)->second.lock();
  }
  return block != nullptr && block->Has(data) ? block : nullptr;
}

std::optional<BufferPool::Place> LendableMemory::PlaceOf(
    const void* data, uint64_t nbytes) const {
  if (!home_.IsThis()) return std::nullopt;
  return pool_->PlaceOf(data, nbytes);
}

bool LendableMemory::Has(const at::Tensor& tensor) const {
  return Find(DataOf(tensor)) != nullptr;
}

bool LendableMemory::IsLent(const at::Tensor& tensor) const {
  const std::shared_ptr<Block> block = Find(DataOf(tensor));
  if (block == nullptr) return false;
  absl::MutexLock lock(&mu_);
  return block->loans > 0 || block->lost;
}

void LendableMemory::WhenReturned(const at::Tensor& tensor,
                                  DoneStatus returned) const {
  const std::shared_ptr<Block> block = Find(DataOf(tensor));
  absl::Status status;
  if (block != nullptr) {
    absl::MutexLock lock(&mu_);
    if (block->loans > 0) return block->waiting.push_back(std::move(returned));
    if (block->lost) status = Lost();
  }
  TellUser(kWaiting, std::move(returned), status);
}

std::unique_ptr<LendableMemory::Loan> LendableMemory::Lend(
    const void* data) const {
  std::shared_ptr<Block> block = Find(data);
  if (block == nullptr) return nullptr;
  return std::make_unique<Loan>(shared_from_this(), std::move(block));
}

LendableMemory::Loan::Loan(std::shared_ptr<const LendableMemory> memory,
                           std::shared_ptr<Block> block)
    : memory_(std::move(memory)), block_(std::move(block)) {
  absl::MutexLock lock(&memory_->mu_);
  ++block_->loans;
}

void LendableMemory::Loan::Lose() {
  {
    absl::MutexLock lock(&memory_->mu_);
    block_->lost = true;
  }
  memory_->pool_->Retire(block_->taken.data);
}

LendableMemory::Loan::~Loan() {
  std::vector<DoneStatus> told;
  absl::Status status;
  {
    absl::MutexLock lock(&memory_->mu_);
    if (--block_->loans > 0) return;
    told.swap(block_->waiting);
    if (block_->lost) status = Lost();
  }
  for (DoneStatus& returned : told) {
    TellUser(kWaiting, std::move(returned), status);
  }
}

}  // namespace tensorferry
