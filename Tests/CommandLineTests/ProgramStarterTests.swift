import Foundation
import Glibc
import TestSupport
import Testing

@Suite struct ProgramStarterTests {
    /// Exit tests hand nothing over; both processes find the file by the number of the first one.
    private static func file(of process: pid_t) -> String { "/tmp/program-starter-\(process)" }

    @Test("a program of the tests ends when the tests are killed")
    func killed() async throws {
        let file = Self.file(of: getpid())
        defer { #expect(unlink(file) == 0) }
        await #expect(processExitsWith: .signal(SIGKILL)) {
            let program = try RunningProgram(URL(filePath: "/bin/sleep"), ["1000"])
            try Data("\(program.id)".utf8).write(to: URL(filePath: ProgramStarterTests.file(of: getppid())))
            // Only the program that is started by the starter's last step ends with its parent.
            try await eventually("it is started") {
                try String(contentsOfFile: "/proc/\(program.id)/comm", encoding: .utf8) == "sleep\n"
            }
            kill(getpid(), SIGKILL)
        }
        let number = try #require(pid_t(String(contentsOfFile: file, encoding: .utf8)))
        try await eventually("the program has ended") {
            // In a container a process whose parent has ended may stay a zombie.
            let state = try? String(contentsOfFile: "/proc/\(number)/stat", encoding: .utf8)
            return state?.contains(") Z ") ?? true
        }
    }
}
