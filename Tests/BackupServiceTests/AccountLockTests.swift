import Foundation
import JobCore
import SystemPackage
import TestSupport
import Testing

@testable import BackupService

/// The lock file that keeps rsnapshot, run by hand, from an account's snapshots.
@Suite struct AccountLockTests {
    @Test("a lock that another process holds is refused and stays; it is free when that process is gone")
    func held() async throws {
        let directory = try TestDirectory()
        let file = directory.path.appending("rsnapshot-3723707.pid")
        let holder = Process()
        holder.executableURL = URL(filePath: "/bin/bash")
        holder.arguments = ["-c", "exec -a rsnapshot sleep 1000"]
        try holder.run()
        // SIGTERM may be blocked in this process, and so in its children.
        defer { if holder.isRunning { kill(holder.processIdentifier, SIGKILL) } }
        let text = "\(holder.processIdentifier)\n"
        try directory.write(text, to: "rsnapshot-3723707.pid")
        try await eventually("it is named rsnapshot") { AccountLock.holder(of: file) != nil }
        for _ in 0..<2 {
            #expect(throws: JobOutcome.self) { try AccountLock.take(file) }
            #expect(try String(contentsOfFile: file.string, encoding: .utf8) == text)
        }
        kill(holder.processIdentifier, SIGKILL)
        holder.waitUntilExit()
        let lock = try AccountLock.take(file)
        #expect(try String(contentsOfFile: file.string, encoding: .utf8) == "\(getpid())\n")
        withExtendedLifetime(lock) {}
    }

    @Test("it is removed with its last reference, and is the only file that is left or made")
    func released() throws {
        let directory = try TestDirectory()
        let file = directory.path.appending("rsnapshot-3723707.pid")
        do {
            let lock = try AccountLock.take(file)
            #expect(exists(file))
            withExtendedLifetime(lock) {}
        }
        #expect(!exists(file))
        #expect(throws: Errno.noSuchFileOrDirectory) {
            try AccountLock.take(directory.path.pushing("missing/rsnapshot-3723707.pid"))
        }
    }
}
