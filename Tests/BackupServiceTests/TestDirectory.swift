import Foundation
import Glibc
import JobCore
import SystemPackage
import TestSupport
import Testing

@testable import BackupService

extension NameLimit {
    init(_ names: Int, levels: Int = 250_000) {
        self.init(names: names, reason: "as the test says", levels: levels)
    }
}

/// A directory for one test, removed with its last reference: a home root, a directory for configurations, one for scripts.
final class TestDirectory: Sendable {
    let path: FilePath

    init(in parent: FilePath = "/tmp") throws {
        var template = Array(parent.appending("backup-rsnapshot-test-XXXXXX").string.utf8CString)
        guard mkdtemp(&template) != nil else { throw Errno(rawValue: errno) }
        path = FilePath(String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self))
        guard chmod(path.string, 0o755) == 0 else { throw Errno(rawValue: errno) }
        for name in ["homes", "rsnapshot.d", "run", "scripts"] { try makeDirectory(FilePath(name)) }
    }

    deinit {
        unmountAll()
        guard let parent = try? HeldDirectory(configured: path.removingLastComponent()), let name = path.lastComponent
        else {
            return
        }
        _ = try? TreeRemoval { false }.remove(name, in: parent)
    }

    /// Unmounts all mounts inside.
    func unmountAll() {
        let mounts = (try? MountTable.current().mounts(inside: path)) ?? []
        for mount in mounts.reversed() { umount2(mount.point.string, Int32(MNT_DETACH)) }
    }

    var homes: FilePath { path.appending("homes") }
    var configurations: FilePath { path.appending("rsnapshot.d") }

    @discardableResult
    func makeDirectory(_ relative: FilePath, mode: mode_t = 0o755, owner: UInt32? = nil) throws -> FilePath {
        let directory = path.pushing(relative)
        try FileManager.default.createDirectory(atPath: directory.string, withIntermediateDirectories: true)
        guard chmod(directory.string, mode) == 0 else { throw Errno(rawValue: errno) }
        if let owner, chown(directory.string, owner, owner) != 0 { throw Errno(rawValue: errno) }
        return directory
    }

    @discardableResult
    func write(_ text: String, to relative: FilePath, mode: mode_t = 0o644) throws -> FilePath {
        let file = path.pushing(relative)
        try Data(text.utf8).write(to: URL(fileURLWithPath: file.string))
        try makeExecutable(file.string, mode: mode)
        return file
    }

    /// Nests directories named `d`, each with three files.
    /// - Returns: the inodes of the directories.
    @discardableResult
    func nest(_ depth: Int, in relative: FilePath) throws -> Set<ino_t> {
        var directory = open(try makeDirectory(relative).string, O_RDONLY | O_DIRECTORY)
        defer { close(directory) }
        var inodes: Set<ino_t> = []
        for _ in 0..<depth {
            inodes.insert(directoryInode(directory) ?? 0)
            for name in ["a", "m", "z"] {
                let file = openat(directory, name, O_CREAT | O_WRONLY, 0o600)
                guard file >= 0, Glibc.write(file, "x", 1) == 1 else { throw Errno(rawValue: errno) }
                close(file)
            }
            guard mkdirat(directory, "d", 0o700) == 0 else { throw Errno(rawValue: errno) }
            let next = openat(directory, "d", O_RDONLY | O_DIRECTORY)
            close(directory)
            directory = next
        }
        return inodes
    }

    func link(_ relative: FilePath, to target: FilePath) throws {
        guard symlink(target.string, path.pushing(relative).string) == 0 else { throw Errno(rawValue: errno) }
    }

    /// An executable script.
    func script(_ body: String, mode: mode_t = 0o755) throws -> FilePath {
        try write("#!/bin/bash\nset -eu\n" + body + "\n", to: "scripts/home.sh", mode: mode)
    }

    /// All files with type, mode, owner, inode and modification time: two equal listings mean that nothing was changed.
    func listing() throws -> [String] {
        try Self.walk(path).sorted()
    }

    private static func walk(_ path: FilePath) throws -> [String] {
        var status = stat()
        guard lstat(path.string, &status) == 0 else { throw Errno(rawValue: errno) }
        let line =
            "\(path) \(String(status.st_mode, radix: 8)) \(status.st_uid):\(status.st_gid) \(status.st_ino) \(status.st_size) "
            + "\(status.st_mtim.tv_sec).\(status.st_mtim.tv_nsec)"
        guard status.st_mode & S_IFMT == S_IFDIR else { return [line] }
        return try [line]
            + FileManager.default.contentsOfDirectory(atPath: path.string).flatMap { try walk(path.appending($0)) }
    }
}

/// A mount for a test that runs as root; unmounted with its last reference.
final class TestMount {
    private let point: FilePath

    /// - Parameter source: a directory to be seen at the point too; nil mounts a small file system in memory.
    init(_ source: FilePath? = nil, at point: FilePath, options: String = "mode=0755") throws {
        self.point = point
        let result =
            source.map { mount($0.string, point.string, "none", UInt(MS_BIND), nil) }
            ?? mount("none", point.string, "tmpfs", 0, options)
        guard result == 0 else { throw Errno(rawValue: errno) }
    }

    deinit { umount2(point.string, Int32(MNT_DETACH)) }
}

/// Mounts a small btrfs at the directory's `homes`, until the directory is removed.
func mountBtrfs(in directory: TestDirectory) async throws {
    let image = try directory.write("", to: "image")
    guard truncate(image.string, 128 << 20) == 0 else { throw Errno(rawValue: errno) }
    try await runTool("/usr/sbin/mkfs.btrfs", "-q", image.string)
    try await runTool("/usr/bin/mount", "-o", "loop", image.string, directory.homes.string)
    guard unlink(image.string) == 0 else { throw Errno(rawValue: errno) }
}

/// A small ext4 at the directory's `homes`, until the directory is removed.
struct DamageableVolume {
    private let image: FilePath
    private let point: FilePath

    static let isPossible =
        isRoot && access("/dev/loop-control", F_OK) == 0 && Program.isExecutable("/usr/sbin/mkfs.ext4")
        && Program.isExecutable("/usr/sbin/debugfs")

    init(in directory: TestDirectory) async throws {
        image = try directory.write("", to: "image")
        point = directory.homes
        guard truncate(image.string, 64 << 20) == 0 else { throw Errno(rawValue: errno) }
        try await runTool("/usr/sbin/mkfs.ext4", "-q", image.string)
        try await mount()
    }

    private func mount() async throws { try await runTool("/usr/bin/mount", "-o", "loop", image.string, point.string) }

    /// Makes a directory unreadable, as a failed disk does.
    /// - Parameter path: below the volume.
    func damage(_ path: String) async throws {
        try await runTool("/usr/bin/umount", point.string)
        try await runTool("/usr/sbin/debugfs", "-w", "-R", "clri /\(path)", image.string)
        try await mount()
    }
}

let canMountBtrfs =
    isRoot && access("/dev/loop-control", F_OK) == 0 && Program.isExecutable("/usr/sbin/mkfs.btrfs")

/// Runs a program that must succeed.
func runTool(_ program: FilePath, _ arguments: String...) async throws {
    let result = try await ScriptRunner().run(
        ScriptInvocation(
            executable: program, arguments: arguments, environment: ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin"],
            timeLimit: .seconds(60), grace: .seconds(1)))
    #expect(result.complaint == nil, "\(program): \(result.outputTail)")
}

func status(_ path: FilePath) -> stat? {
    var status = stat()
    return lstat(path.string, &status) == 0 ? status : nil
}

private func directoryInode(_ descriptor: Int32) -> ino_t? {
    var status = stat()
    return fstat(descriptor, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR ? status.st_ino : nil
}

/// The number of these directories that this process has open.
func openDirectories(of inodes: Set<ino_t>) -> Int {
    let held = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")) ?? []
    return held.count { Int32($0).flatMap(directoryInode).map(inodes.contains) == true }
}

/// The files below the directory that this process has open, also removed ones. Inodes are no use, since they are soon reused.
func openFiles(below directory: FilePath) -> [String] {
    let held = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")) ?? []
    return held.compactMap { try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\($0)") }
        .filter { $0.hasPrefix("\(directory)/") }
}

func exists(_ path: FilePath) -> Bool { status(path) != nil }

func text(_ path: FilePath) throws -> String { try String(contentsOfFile: path.string, encoding: .utf8) }

let isRoot = geteuid() == 0
