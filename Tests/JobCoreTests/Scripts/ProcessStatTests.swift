import Foundation
import Glibc
import TestSupport
import Testing

@testable import JobCore

@Suite struct ProcessStatTests {
    private static func line(
        _ name: String = "x", state: String = "R", memory: Int = 4096, environment: ClosedRange<Int>
    ) -> [UInt8] {
        // The parent is the first of them.
        let (before, between) = (Array(repeating: "1", count: 19), Array(repeating: "7", count: 26))
        let fields = ["42 (\(name))", state] + before + ["\(memory)"] + between
        return Array((fields + ["\(environment.lowerBound) \(environment.upperBound) 0\n"]).joined(separator: " ").utf8)
    }

    @Test("a name may contain parentheses and blanks; a zombie is not alive")
    func names() {
        let running = ProcessStat(line: Self.line("a) Z (b", state: "S", environment: 90...99))
        #expect(running?.name == "a) Z (b")
        #expect(running?.isAlive == true)
        #expect(running?.parent == 1)
        #expect(ProcessStat(line: Self.line(state: "Z", memory: 0, environment: 0...0))?.isAlive == false)
        #expect(ProcessStat(line: Array("42 (x".utf8)) == nil)
        #expect(ProcessStat(line: []) == nil)
    }

    @Test("a kernel thread has no memory; an environment is empty if its begin and end are equal and not 0")
    func environments() {
        #expect(ProcessStat(line: Self.line(environment: 90...99))?.hasEmptyEnvironment == false)
        #expect(ProcessStat(line: Self.line(environment: 99...99))?.hasEmptyEnvironment == true)
        #expect(ProcessStat(line: Self.line(environment: 0...0))?.hasEmptyEnvironment == false)
        #expect(ProcessStat(line: Self.line(environment: 0...0))?.isKernelThread == false)
        #expect(ProcessStat(line: Self.line(memory: 0, environment: 0...0))?.isKernelThread == true)
    }

    @Test("a process that does not exist has no stat")
    func real() {
        #expect(ProcessStat(of: getpid())?.isAlive == true)
        #expect(ProcessStat(of: getpid())?.parent == getppid())
        #expect(ProcessStat(of: getpid())?.isKernelThread == false)
        #expect(ProcessStat(of: .max) == nil)
    }
}

extension Processes {
    @Suite struct MarkerTests {
        @Test("a process with an empty environment does not delay the search")
        func empty() async throws {
            let child = Process()
            child.executableURL = URL(fileURLWithPath: "/bin/sleep")
            child.arguments = ["600"]
            child.environment = [:]
            try child.run()
            defer { kill(child.processIdentifier, SIGKILL) }
            try await eventually { ProcessStat(of: child.processIdentifier)?.hasEmptyEnvironment == true }
            let marker = ScriptMarker(variable: "SIGN", text: "none")
            #expect(marker.presence(in: child.processIdentifier) == .absent)
        }

        @Test("a marker is found at any place in an environment of any size, as a whole")
        func largeEnvironment() async throws {
            let (name, text) = ("SIGN", UUID().uuidString)
            let marker = ScriptMarker(variable: name, text: text)
            var environment = [name: text]
            for number in 0..<12 { environment["BIG\(number)"] = String(repeating: "x", count: 12_345) }
            let child = Process()
            child.executableURL = URL(fileURLWithPath: "/bin/sleep")
            child.arguments = ["600"]
            child.environment = environment
            try child.run()
            defer { kill(child.processIdentifier, SIGKILL) }
            #expect(marker.presence(in: child.processIdentifier) == .present)
            let part = ScriptMarker(variable: name, text: String(text.dropLast()))
            #expect(part.presence(in: child.processIdentifier) == .absent)
        }

        @Test("D13: a process that executes one program after the other does not escape the search of environments")
        func execs() async throws {
            let (name, text) = ("SIGN", UUID().uuidString)
            let marker = ScriptMarker(variable: name, text: text)
            let child = Process()
            child.executableURL = URL(fileURLWithPath: "/usr/bin/perl")
            child.arguments = ["-e", "exec $^X, '-e', $ENV{AGAIN}"]
            child.environment = [name: text, "AGAIN": "exec $^X, '-e', $ENV{AGAIN}"]
            try child.run()
            defer { kill(child.processIdentifier, SIGKILL) }
            try await eventually { marker.presence(in: child.processIdentifier) == .present }
            var escapes = 0
            for _ in 0..<5_000 where marker.presence(in: child.processIdentifier) != .present { escapes += 1 }
            #expect(escapes == 0)
        }
    }
}
