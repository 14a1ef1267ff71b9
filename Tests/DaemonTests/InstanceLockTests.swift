import Daemon
import Foundation
import SystemPackage
import Testing

struct InstanceLockTests {
    private let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    private var file: FilePath { directory.path.appending("lock") }

    /// A process that writes its number into the file and holds the lock until it is killed.
    private func holder() throws -> ChildProcess {
        let script = "echo $$ > \(file); exec flock --no-fork -x \(file) sh -c 'echo ready; exec sleep 1000'"
        let child = try ChildProcess(["/bin/sh", "-c", script])
        #expect(child.line() == "ready")
        return child
    }

    @Test func `a lock that another process holds is refused with the holder's number and status 75`() throws {
        let child = try holder()
        defer { child.wait() }
        defer { child.kill() }
        let error = #expect(throws: CommandFailure.self) { try InstanceLock(in: directory.path) }
        #expect(error?.status.rawValue == 75)
        #expect(error?.description.hasPrefix("\(file): process \(child.id) holds the lock;") == true)
        // The instance may be starting.
        #expect(error?.description.contains("try again; else stop that instance") == true)
    }

    @Test func `the holder of a lock is told without touching the lock, and none when it has ended`() throws {
        #expect(InstanceLock.holder(in: directory.path) == nil)
        let child = try holder()
        #expect(InstanceLock.holder(in: directory.path) == child.id)
        child.kill(SIGKILL)
        child.wait()
        #expect(FileManager.default.fileExists(atPath: file.string))
        #expect(InstanceLock.holder(in: directory.path) == nil)
    }

    @Test func `the lock of a killed process can be taken`() throws {
        let child = try holder()
        child.kill(SIGKILL)
        #expect(child.wait() == -SIGKILL)
        #expect(FileManager.default.fileExists(atPath: file.string))
        withExtendedLifetime(try InstanceLock(in: directory.path)) {
            #expect(FileManager.default.contents(atPath: file.string) == Data("\(getpid())\n".utf8))
        }
    }

    @Test func `a killed process that was starting a program is waited for`() throws {
        // Ends, and a process that it has started holds the lock for a moment.
        let script =
            "exec 9<>\(file); flock 9; echo $$ >&9; sleep 0.2 </dev/null >/dev/null 2>&1 & echo ready"
        let child = try ChildProcess(["/bin/sh", "-c", script])
        #expect(child.line() == "ready" && child.wait() == 0)
        #expect(throws: Never.self) { try InstanceLock(in: directory.path, longestWait: .seconds(300)) }
    }

    @Test
    func `the lock ends with the value, even if a child process that is being started has a copy of the descriptor`()
        throws
    {
        var lock: InstanceLock? = try InstanceLock(in: directory.path)
        let name = try #require(lock).path.string
        let descriptors = try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").compactMap(Int32.init)
        let own = descriptors.filter {
            (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\($0)")) == name
        }
        let copy = dup(try #require(own.first))
        defer { close(copy) }
        lock = nil
        #expect(copy >= 0 && lock == nil)
        #expect(throws: Never.self) { try InstanceLock(in: directory.path) }
    }

    @Test func `other users cannot open and lock the file, even if an earlier version made it readable`() throws {
        for _ in 0..<2 {
            withExtendedLifetime(try InstanceLock(in: directory.path)) {
                var status = stat()
                #expect(stat(file.string, &status) == 0 && status.st_mode & 0o777 == 0o600)
            }
            #expect(chmod(file.string, 0o644) == 0)
        }
    }

    @Test func `while it is held, no other process gets it`() throws {
        let attempt = ["/usr/bin/flock", "--nonblock", "--exclusive", file.string, "/bin/true"]
        let lock = try InstanceLock(in: directory.path)
        let status = try ChildProcess(attempt).wait()
        #expect(status == 1)
        #expect(throws: CommandFailure.self) { try InstanceLock(in: lock.path.removingLastComponent()) }
    }

    @Test func `a child does not inherit it`() throws {
        var lock: InstanceLock? = try InstanceLock(in: directory.path)
        let child = try ChildProcess(["/bin/sh", "-c", "echo started; exec sleep 1000"])
        defer { child.wait() }
        defer { child.kill() }
        #expect(child.line() == "started")
        #expect(lock?.path == file)
        lock = nil
        _ = try InstanceLock(in: directory.path)
    }

    @Test func `garbage in a leftover file is overwritten`() throws {
        _ = try directory.file("lock", String(repeating: "x", count: 4_096))
        withExtendedLifetime(try InstanceLock(in: directory.path)) {
            #expect(FileManager.default.contents(atPath: file.string) == Data("\(getpid())\n".utf8))
        }
    }

    @Test func `without its directory the lock is refused with path and hint`() {
        let missing = directory.path.appending("none")
        let error = #expect(throws: CommandFailure.self) { try InstanceLock(in: missing) }
        #expect(error?.reason.hasPrefix("\(missing.appending("lock")): ") == true && error?.status == .failure)
        #expect(error?.hint.contains("RUNTIME_DIRECTORY") == true)
    }
}

struct RuntimeDirectoryTests {
    private let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    private func mode(_ path: FilePath) -> mode_t {
        var status = stat()
        return stat(path.string, &status) == 0 ? status.st_mode & 0o7777 : 0
    }

    @Test func `a missing directory is created with its parents and exactly the requested mode`() throws {
        let path = directory.path.appending("a/b/c")
        try RuntimeDirectory.prepare(path, mode: 0o700)
        #expect(mode(path) == 0o700)
        try RuntimeDirectory.prepare(path, mode: 0o755)
        #expect(mode(path) == 0o700)
    }

    @Test(arguments: [0o775, 0o757, 0o1777])
    func `a directory that other users can write is refused with the hint`(mode: Int) throws {
        let path = directory.path.appending("open")
        try FileManager.default.createDirectory(atPath: path.string, withIntermediateDirectories: false)
        try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path.string)
        let error = #expect(throws: CommandFailure.self) { try RuntimeDirectory.prepare(path) }
        #expect(error?.description.contains("chmod go-w \(path)") == true)
        #expect(error?.status == .wrongConfiguration)
    }

    @Test func `a file in its place and a relative path are refused`() throws {
        let file = try directory.file("file", "")
        let error = #expect(throws: CommandFailure.self) { try RuntimeDirectory.prepare(file) }
        #expect(error?.description.contains("is not a directory") == true)
        #expect(throws: CommandFailure.self) { try RuntimeDirectory.prepare("relative") }
        #expect(throws: CommandFailure.self) { try RuntimeDirectory.prepare(file.appending("below")) }
    }

    @Test(.enabled(if: geteuid() == 0, "only root can give a directory away"))
    func `a directory of another user is refused`() throws {
        let path = directory.path.appending("foreign")
        try RuntimeDirectory.prepare(path)
        #expect(chown(path.string, 65_534, 65_534) == 0)
        let error = #expect(throws: CommandFailure.self) { try RuntimeDirectory.prepare(path) }
        #expect(error?.description.contains("does not belong to") == true)
    }
}
