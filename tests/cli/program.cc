#include "tests/cli/program.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "absl/strings/str_cat.h"

namespace tensorferry::testing {
namespace {

// The program that the test was given, with the test's environment but for
// what might already stand in it for flags.
std::vector<std::string> Environment(
    const std::map<std::string, std::string>& variables) {
  std::vector<std::string> environment;
  for (char** one = environ; *one != nullptr; ++one)
    environment.push_back(*one);
  for (const auto& [name, value] : variables) {
    environment.push_back(absl::StrCat(name, "=", value));
  }
  return environment;
}

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

// Appends what `fd` has; closes it, and sets it to -1, at its end.
void ReadSome(int& fd, std::string& into) {
  char bytes[4096];
  const ssize_t got = read(fd, bytes, sizeof(bytes));
  if (got > 0) {
    into.append(bytes, got);
  } else {
    close(fd);
    fd = -1;
  }
}

}  // namespace

Program::Program(const Words& words,
                 const std::map<std::string, std::string>& variables,
                 const std::string& out_file) {
  int out[2], err[2];
  if (pipe(out) != 0 || pipe(err) != 0) std::abort();
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, err[1], STDERR_FILENO);
  if (!out_file.empty()) {
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, out_file.c_str(),
                                     O_WRONLY, 0);
  }
  for (int fd : {out[0], out[1], err[0], err[1]}) {
    posix_spawn_file_actions_addclose(&actions, fd);
  }
  std::vector<std::string> arguments = {std::getenv("TENSORFERRY_PROGRAM")};
  arguments.insert(arguments.end(), words.begin(), words.end());
  std::vector<std::string> environment = Environment(variables);
  const int error =
      posix_spawn(&pid_, arguments[0].c_str(), &actions, nullptr,
                  Pointers(arguments).data(), Pointers(environment).data());
  if (error != 0) std::abort();
  posix_spawn_file_actions_destroy(&actions);
  close(out[1]);
  close(err[1]);
  out_fd_ = out[0];
  err_fd_ = err[0];
}

Program::~Program() {
  if (pid_ < 0) return;
  Signal(SIGKILL);
  Wait();
}

void Program::CloseErr() {
  close(err_fd_);
  err_fd_ = -1;
}

void Program::Signal(int signal) { kill(pid_, signal); }

std::string Program::AwaitLog(const std::string& text) {
  for (;;) {
    const size_t found = err_.find(text);
    const size_t end =
        found == std::string::npos ? found : err_.find('\n', found);
    if (end != std::string::npos) {
      return err_.substr(found + text.size(), end - found - text.size());
    }
    if (err_fd_ < 0) return "";
    ReadSome(err_fd_, err_);
  }
}

void Program::Drain() {
  while (out_fd_ >= 0 || err_fd_ >= 0) {
    pollfd ends[2] = {{out_fd_, POLLIN, 0}, {err_fd_, POLLIN, 0}};
    poll(ends, 2, -1);
    if (ends[0].revents != 0) ReadSome(out_fd_, out_);
    if (ends[1].revents != 0) ReadSome(err_fd_, err_);
  }
}

int Program::Wait() {
  Drain();
  int status = 0;
  waitpid(pid_, &status, 0);
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace tensorferry::testing
