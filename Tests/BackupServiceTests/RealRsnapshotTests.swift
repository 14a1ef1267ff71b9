import Foundation
import JobCore
import Provisioning
import SystemPackage
import Testing

@testable import BackupService

/// With the rsnapshot and rsync of this machine.
@Suite(.enabled(if: Program.isExecutable("/usr/bin/rsnapshot"), "rsnapshot is not installed: apt install rsnapshot"))
struct RealRsnapshotTests {
    private func rsnapshot(_ directory: TestDirectory, _ command: String) async throws -> ScriptResult {
        try await ScriptRunner().run(
            ScriptInvocation(
                executable: "/usr/bin/rsnapshot",
                arguments: ["-c", directory.configurations.appending("3723707.conf").string, command],
                environment: ["PATH": "/usr/bin:/bin", "LC_ALL": "C"], timeLimit: .seconds(60), grace: .seconds(1)))
    }

    @Test(
        "rsnapshot accepts the configuration, and its snapshots have the contents of incoming, with unchanged files shared"
    )
    func snapshots() async throws {
        let directory = try TestDirectory()
        let configuration = try directory.configuration { $0.configurationTest = .always }
        try await BackupRsnapshotService(configuration: configuration).carryOut(.add, directory.entry())
        let check = try await rsnapshot(directory, "configtest")
        #expect(check.complaint == nil)
        #expect(check.outputTail.contains("Syntax OK"))

        try directory.write("same", to: "homes/3723707/incoming/same")
        try directory.makeDirectory("homes/3723707/incoming/deep/er")
        try directory.write("old", to: "homes/3723707/incoming/deep/er/changing")
        for content in ["old", "new!"] {
            try directory.write(content, to: "homes/3723707/incoming/deep/er/changing")
            let run = try await rsnapshot(directory, "daily")
            #expect(run.complaint == nil, "\(run.outputTail)")
        }
        let snapshots = directory.homes.appending("3723707").appending(".snapshots")
        let (newest, older) = (snapshots.appending("daily.0"), snapshots.appending("daily.1"))
        #expect(try FileManager.default.contentsOfDirectory(atPath: newest.string).sorted() == ["deep", "same"])
        #expect(status(newest.appending("same"))?.st_ino == status(older.appending("same"))?.st_ino)
        #expect(status(newest.appending("same"))?.st_nlink == 2)
        #expect(try text(newest.pushing("deep/er/changing")) == "new!")
        #expect(try text(older.pushing("deep/er/changing")) == "old")
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path.appending("run").string) == [])
    }

    @Test(
        "a snapshot takes on the disk what the files take, and a file that is written twice in one second is copied again"
    )
    func faithful() async throws {
        let directory = try TestDirectory()
        let configuration = try directory.configuration()
        try await BackupRsnapshotService(configuration: configuration).carryOut(.add, directory.entry())
        let incoming = directory.homes.pushing("3723707/incoming")
        let newest = directory.homes.pushing("3723707/.snapshots/daily.0")

        let hole = try directory.write("", to: "homes/3723707/incoming/hole")
        #expect(truncate(hole.string, 64 << 20) == 0)
        let first = try directory.write("names", to: "homes/3723707/incoming/first")
        #expect(link(first.string, incoming.appending("second").string) == 0)
        // The same length and the same second, another nanosecond.
        for (content, nanoseconds) in [("before", 100_000_000), ("after!", 900_000_000)] {
            let file = try directory.write(content, to: "homes/3723707/incoming/changing")
            let times = [timespec](repeating: timespec(tv_sec: 1_700_000_000, tv_nsec: nanoseconds), count: 2)
            #expect(utimensat(AT_FDCWD, file.string, times, 0) == 0)
            let run = try await rsnapshot(directory, "daily")
            #expect(run.complaint == nil, "\(run.outputTail)")
        }
        #expect(try text(newest.appending("changing")) == "after!")
        #expect(status(newest.appending("first"))?.st_ino == status(newest.appending("second"))?.st_ino)
        #expect(status(newest.appending("hole"))?.st_size == 64 << 20)
        #expect(try #require(status(newest.appending("hole"))).st_blocks * 512 < 1 << 20)
    }

    @Test("a template that only rsnapshot itself rejects is code 7 with its output")
    func rejected() async throws {
        let directory = try TestDirectory()
        try directory.write(text(shippedTemplate).replacing("verbose\t2", with: "verbose\tloud"), to: "loud.template")
        let configuration = try directory.configuration {
            $0.template = directory.path.appending("loud.template")
            $0.configurationTest = .template
        }
        let failure = try await BackupRsnapshotService(configuration: configuration).failure(.add, directory.entry())
        #expect(failure?.code == .cannotCreateRsnapshotConfiguration)
        #expect(failure?.reason.contains("verbose") == true, "\(failure?.reason ?? "")")
        #expect(!exists(directory.configurations.appending("3723707.conf")))
    }
}
