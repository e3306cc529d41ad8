#include "channel/channel_session.h"

#include <utility>
#include <vector>

#include "channel/buffer_exchange.h"
#include "channel/peer_memory.h"

namespace tensorferry {

ChannelSession::ChannelSession(LocalChannelOptions options)
    : options_(std::move(options)),
      why_unreadable_(WhyOthersAreRefused()),
      mapped_arenas_(
          std::make_shared<MappedArenas>(options_.peer_arena_bytes)) {}

bool ChannelSession::Enter(std::shared_ptr<BufferExchange> exchange) {
  absl::MutexLock lock(&mu_);
  BufferExchange* const key = exchange.get();
  exchanges_.emplace(key, std::move(exchange));
  return !closed_;
}

void ChannelSession::Leave(BufferExchange* exchange) {
  std::shared_ptr<BufferExchange> left;  // destroyed after the lock
  absl::MutexLock lock(&mu_);
  auto entry = exchanges_.find(exchange);
  left = std::move(entry->second);
  exchanges_.erase(entry);
}

void ChannelSession::Close() {
  std::vector<std::shared_ptr<BufferExchange>> exchanges;
  {
    absl::MutexLock lock(&mu_);
    closed_ = true;
    for (const auto& entry : exchanges_) exchanges.push_back(entry.second);
  }
  for (const auto& exchange : exchanges) exchange->Close();
}

void ChannelSession::Join() {
  Close();
  auto empty = [this] { return exchanges_.empty(); };
  absl::MutexLock lock(&mu_);
  mu_.Await(absl::Condition(&empty));
}

}  // namespace tensorferry
