import Glibc
import SystemPackage

/// Keeps two starts in one directory apart. The kernel lets go of it when the process ends.
struct SandboxLock {
    private let descriptor: Int32

    init(_ file: FilePath) throws(SandboxError) {
        descriptor = open(file.string, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw SandboxFiles.failure("cannot make \(file)", errno) }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            close(descriptor)
            throw SandboxError(
                .alreadyRunning, "a sandbox is being started in \(file.removingLastComponent()) at this moment",
                hint: "wait until it runs and use it")
        }
    }

    func release() {
        // Closing is not enough: a child that another thread is starting has a copy of the descriptor until it becomes its program.
        flock(descriptor, LOCK_UN)
        close(descriptor)
    }
}
