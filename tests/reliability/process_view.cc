#include "tests/reliability/process_view.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <signal.h>
#include <unistd.h>

#include <fstream>
#include <limits>
#include <memory>
#include <set>
#include <sstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace tensorferry {
namespace testing {
namespace {

std::string Proc(pid_t pid, const char* file) {
  return absl::StrCat("/proc/", pid, "/", file);
}

// Where each descriptor of the process leads: "socket:[1234]".
std::vector<std::string> Descriptors(pid_t pid) {
  std::vector<std::string> links;
  const std::string folder = Proc(pid, "fd");
  std::unique_ptr<DIR, int (*)(DIR*)> entries(opendir(folder.c_str()),
                                              closedir);
  if (entries == nullptr) return links;
  while (dirent* entry = readdir(entries.get())) {
    char target[256];
    const ssize_t length =
        readlink(absl::StrCat(folder, "/", entry->d_name).c_str(), target,
                 sizeof(target));
    if (length > 0) links.emplace_back(target, length);
  }
  return links;
}

// The value of a line "key:   value kB" of /proc/PID/status or /proc/meminfo.
uint64_t ValueOf(const std::string& file, const std::string& key) {
  std::ifstream in(file);
  for (std::string word; in >> word;) {
    uint64_t value = 0;
    if (word == key && in >> value) return value;
    in.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return 0;
}

std::string HostOf(const std::string& hex) {
  char text[INET6_ADDRSTRLEN] = "";
  uint32_t words[4] = {};
  for (size_t i = 0; i * 8 < hex.size() && i < 4; ++i) {
    words[i] = std::stoul(hex.substr(i * 8, 8), nullptr, 16);
  }
  inet_ntop(hex.size() == 8 ? AF_INET : AF_INET6, words, text, sizeof(text));
  // gRPC listens on IPv4 addresses in their IPv6 form.
  return std::string(absl::StripPrefix(text, "::ffff:"));
}

void AddTcp(pid_t pid, const char* file, const std::set<std::string>& inodes,
            std::vector<ListeningSocket>& sockets) {
  std::ifstream in(Proc(pid, file));
  std::string line;
  std::getline(in, line);
  while (std::getline(in, line)) {
    const std::vector<std::string> columns =
        absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (columns.size() < 10 || columns[3] != "0A") continue;  // TCP_LISTEN
    if (inodes.count(columns[9]) == 0) continue;
    const std::vector<std::string> local = absl::StrSplit(columns[1], ':');
    sockets.push_back(
        {.host = HostOf(local[0]),
         .port = static_cast<uint16_t>(std::stoul(local[1], nullptr, 16))});
  }
}

void AddUnix(pid_t pid, const std::set<std::string>& inodes,
             std::vector<ListeningSocket>& sockets) {
  std::ifstream in(Proc(pid, "net/unix"));
  std::string line;
  std::getline(in, line);
  while (std::getline(in, line)) {
    const std::vector<std::string> columns =
        absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (columns.size() < 8 || inodes.count(columns[6]) == 0) continue;
    const bool listens = (std::stoul(columns[3], nullptr, 16) & 0x10000) != 0;
    if (listens) sockets.push_back({.path = columns[7]});
  }
}

}  // namespace

ProcessView Look(pid_t pid) {
  ProcessView view;
  std::set<std::string> memfds;
  for (const std::string& target : Descriptors(pid)) {
    ++view.descriptors;
    if (target.rfind("/memfd:", 0) == 0) memfds.insert(target);
  }
  std::ifstream maps(Proc(pid, "maps"));
  for (std::string line; std::getline(maps, line);) {
    const size_t at = line.find("/memfd:");
    if (at != std::string::npos) memfds.insert(line.substr(at));
  }
  view.memfds = memfds.size();
  const std::string status = Proc(pid, "status");
  view.threads = ValueOf(status, "Threads:");
  view.memory =
      1024 * (ValueOf(status, "RssAnon:") + ValueOf(status, "RssShmem:"));
  return view;
}

std::string ToString(const ProcessView& view) {
  return absl::StrCat(view.descriptors, " descriptors, ", view.threads,
                      " threads, ", view.memfds, " memfds, ", view.memory >> 10,
                      " KiB");
}

bool IsAlive(pid_t pid) {
  std::ifstream in(Proc(pid, "stat"));
  std::stringstream text;
  text << in.rdbuf();
  const std::string stat = text.str();
  const size_t name_ends = stat.rfind(')');
  return name_ends != std::string::npos && stat.size() > name_ends + 2 &&
         stat[name_ends + 2] != 'Z' && stat[name_ends + 2] != 'X';
}

std::vector<ListeningSocket> ListeningSockets(pid_t pid) {
  std::set<std::string> inodes;
  for (const std::string& target : Descriptors(pid)) {
    if (target.rfind("socket:[", 0) != 0) continue;
    inodes.insert(target.substr(8, target.size() - 9));
  }
  std::vector<ListeningSocket> sockets;
  AddTcp(pid, "net/tcp", inodes, sockets);
  AddTcp(pid, "net/tcp6", inodes, sockets);
  AddUnix(pid, inodes, sockets);
  return sockets;
}

std::string ToString(const ListeningSocket& socket) {
  if (socket.host.empty()) return absl::StrCat("unix:", socket.path);
  return absl::StrCat(socket.host, ":", socket.port);
}

uint64_t AvailableMemory() {
  return 1024 * ValueOf("/proc/meminfo", "MemAvailable:");
}

}  // namespace testing
}  // namespace tensorferry
