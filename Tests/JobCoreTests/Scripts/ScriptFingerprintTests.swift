import Foundation
import Glibc
import JobCore
import SystemPackage
import TestSupport
import Testing

extension Processes {
    @Suite struct Fingerprints {
        let directory: ScriptDirectory
        init() throws { directory = try ScriptDirectory() }

        @Test(
            "the checksum equals that of sha256sum for files of any size", arguments: [0, 1, 63, 64, 65_536, 1_000_001])
        func checksum(size: Int) async throws {
            let file = directory.path.appending("file")
            try Data((0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31) }).write(to: URL(filePath: file.string))
            let result = try await ScriptRunner().run(.test("/usr/bin/sha256sum", [file.string]))
            let identity = try #require(ScriptFingerprint(of: file))
            #expect(identity.sha256 == result.output.text.prefix(64).description)
            #expect(identity.size == Int64(size))
        }

        @Test("the rest of the identity is that of stat(2), links followed")
        func identity() async throws {
            let script = try directory.script("exit 0\n", mode: 0o750)
            let link = directory.path.appending("link")
            #expect(symlink(script.string, link.string) == 0)
            let identity = try #require(ScriptFingerprint(of: link))
            var status = stat()
            #expect(stat(script.string, &status) == 0)
            #expect(identity.path == link)
            #expect(identity.resolvedPath == script)
            #expect(identity.device == UInt64(status.st_dev))
            #expect(identity.inode == UInt64(status.st_ino))
            #expect(identity.owner == geteuid())
            #expect(identity.mode == 0o750)
            #expect(identity.size == Int64("#!/bin/sh\nexit 0\n".utf8.count))
            #expect(identity.modified == .seconds(status.st_mtim.tv_sec) + .nanoseconds(status.st_mtim.tv_nsec))
        }

        @Test("a script that is changed in place, at once and to the same size, has another checksum")
        func changed() async throws {
            let script = try directory.script("exit 0")
            let before = try #require(ScriptFingerprint(of: script))
            for code in 1...20 {
                let handle = try FileHandle(forWritingTo: URL(filePath: script.string))
                try handle.write(contentsOf: Data("#!/bin/sh\nexit \(code % 10)".utf8))
                try handle.close()
                let now = try #require(ScriptFingerprint(of: script))
                #expect(now.inode == before.inode)
                #expect((now.sha256 == before.sha256) == (code % 10 == 0), "exit \(code % 10)")
            }
        }

        @Test("an unchanged script is not read again")
        func cached() async throws {
            // A program of the system, which has not changed in this second.
            let program: FilePath = "/bin/sh"
            let first = try #require(ScriptFingerprint(of: program))
            #expect(first.sha256 != nil)
            let before = try bytesRead()
            for _ in 0..<100 { #expect(ScriptFingerprint(of: program) == first) }
            #expect(try bytesRead() - before < 100 * Int(first.size))
        }

        @Test("a path that is not a regular file has no fingerprint and does not block")
        func nothing() async throws {
            let fifo = directory.path.appending("fifo")
            #expect(mkfifo(fifo.string, 0o755) == 0)
            for path in [directory.path.appending("gone"), directory.path, "/dev/null", fifo] {
                #expect(ScriptFingerprint(of: path) == nil, "\(path)")
            }
        }

        /// What this program has read by read(2), in bytes.
        private func bytesRead() throws -> Int {
            let text = try String(contentsOfFile: "/proc/self/io", encoding: .utf8)
            let line = try #require(text.split(separator: "\n").first { $0.hasPrefix("rchar: ") })
            return try #require(Int(line.dropFirst(7)))
        }
    }
}
