import Foundation
import Glibc
import SystemPackage
import Testing

@testable import JobCore

@Suite struct JobIDSourceTests {
    let directory: ScriptDirectory
    let file: FilePath
    init() throws {
        directory = try ScriptDirectory()
        file = directory.path.appending("job-id")
    }

    private var contents: String { get throws { try String(contentsOfFile: file.string, encoding: .utf8) } }
    private var names: [String] {
        get throws { try FileManager.default.contentsOfDirectory(atPath: directory.path.string).sorted() }
    }

    @Test("numbers begin with 1 and increase by one, also across blocks")
    func grows() async throws {
        let source = try JobIDSource(file: file, block: 3)
        #expect(source.notice == nil)
        #expect(try names == [])
        for number in 1...8 { #expect(try await source.next() == JobID(UInt64(number))) }
        #expect(try contents == "10\n")
        #expect(try names == ["job-id"])
    }

    @Test(
        "a block is on the disk before its first number is given out, so a crash at any moment skips numbers and never repeats one"
    )
    func restarts() async throws {
        var last = JobID(0)
        for round in 0..<50 {
            // Each source goes without a goodbye, as after SIGKILL.
            let source = try JobIDSource(file: file, block: 4)
            for _ in 0..<(round % 7) {
                let next = try await source.next()
                #expect(next > last)
                #expect(try #require(UInt64(contents.dropLast())) > next.number)
                last = next
            }
        }
    }

    @Test("a temporary file left by a crash is ignored")
    func draft() async throws {
        _ = try await JobIDSource(file: file, block: 10).next()
        try Data("99999999999".utf8).write(to: URL(filePath: directory.path.appending(".job-id.new").string))
        let source = try JobIDSource(file: file, block: 10)
        #expect(source.notice == nil)
        #expect(try await source.next() == JobID(11))
        #expect(try names == ["job-id"])
    }

    @Test(
        "a damaged file is set aside, and numbers go on from the time in milliseconds, also when no number is asked for before the next start",
        arguments: [
            "", "\n", "12", "012\n", "1 2\n", "-5\n", "12\n34\n", "12\0\n", "99999999999999999999999\n",
            "18446744073709551615\n", "x\n",
        ])
    func damaged(text: String) async throws {
        try Data(text.utf8).write(to: URL(filePath: file.string))
        let now = Duration.seconds(1_800_000_000) + .milliseconds(7)
        let source = try JobIDSource(file: file, block: 1000, now: Timestamp(secondsSince1970: 0) + now)
        let notice = try #require(source.notice)
        #expect(
            notice.contains(file.string) && notice.contains("1800000000007")
                && notice.contains("job-id.damaged-1800000000"))
        #expect(try names == ["job-id", "job-id.damaged-1800000000"])
        let kept = try Data(contentsOf: URL(filePath: file.string + ".damaged-1800000000"))
        #expect(kept == Data(text.utf8))
        let restarted = try JobIDSource(file: file, block: 1000, now: Timestamp(secondsSince1970: 0))
        #expect(restarted.notice == nil)
        #expect(try await restarted.next() == JobID(1_800_000_001_007))
        #expect(try await source.next() == JobID(1_800_000_000_007))
    }

    @Test("a damaged file that cannot be replaced stays, so that the next start does not begin with 1")
    func damagedWithoutRoom() async throws {
        try Data("damaged".utf8).write(to: URL(filePath: file.string))
        let draft = directory.path.appending(".job-id.new").string
        try FileManager.default.createDirectory(atPath: draft, withIntermediateDirectories: false)
        #expect(throws: StateFileError.self) { try JobIDSource(file: file) }
        #expect(try names == [".job-id.new", "job-id"])
        #expect(rmdir(draft) == 0)
        #expect(try await JobIDSource(file: file).next() > JobID(1_000_000))
    }

    @Test("a second damaged file in the same second does not overwrite the first")
    func damagedTwice() async throws {
        for text in ["first", "second", "third"] {
            try Data(text.utf8).write(to: URL(filePath: file.string))
            _ = try JobIDSource(file: file, block: 1, now: Timestamp(secondsSince1970: 5))
        }
        #expect(try names == ["job-id", "job-id.damaged-5", "job-id.damaged-5-1", "job-id.damaged-5-2"])
        #expect(try String(contentsOfFile: file.string + ".damaged-5", encoding: .utf8) == "first")
    }

    @Test("raised numbers are on the disk before the first of them is given, and they are never lowered")
    func raised() async throws {
        let source = try JobIDSource(file: file, block: 4)
        source.raise(above: JobID(0))
        #expect(try await source.next() == JobID(1))
        source.raise(above: JobID(2))
        #expect(try await source.next() == JobID(3))
        source.raise(above: JobID(100))
        source.raise(above: JobID(50))
        #expect(try await source.next() == JobID(101))
        #expect(try contents == "105\n")
    }

    @Test("concurrent requests get different numbers")
    func concurrent() async throws {
        let source = try JobIDSource(file: file, block: 7)
        let numbers = try await withThrowingTaskGroup(of: [JobID].self) { tasks in
            for _ in 0..<8 {
                tasks.addTask {
                    var numbers: [JobID] = []
                    for _ in 0..<50 { numbers.append(try await source.next()) }
                    return numbers
                }
            }
            return try await tasks.reduce(into: []) { $0 += $1 }
        }
        #expect(numbers.sorted() == (1...400).map { JobID($0) })
    }

    @Test("a missing directory, and a file that is a link or a directory, are errors with path and hint")
    func errors() async throws {
        let lost = directory.path.appending("gone/job-id")
        let source = try JobIDSource(file: lost)
        let error = await #expect(throws: StateFileError.self) { try await source.next() }
        #expect(error?.path == lost)
        #expect(error?.errno == .noSuchFileOrDirectory)
        #expect(
            error?.description.hasSuffix("create the directory: mkdir -p \(lost.removingLastComponent().string)")
                == true)
        #expect(symlink("/etc/hostname", file.string) == 0)
        #expect(throws: StateFileError.self) { try JobIDSource(file: file) }
        #expect(throws: StateFileError.self) { try JobIDSource(file: directory.path) }
    }
}
