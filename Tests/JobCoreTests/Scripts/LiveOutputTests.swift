import Foundation
import JobCore
import SystemPackage
import TestSupport
import Testing

extension Processes {
    @Suite struct FollowedOutput {
        let directory: ScriptDirectory
        init() throws { directory = try ScriptDirectory() }

        @Test("the output of a script can be read while it runs, line by line, and is in the result at the end")
        func followed() async throws {
            let script = try directory.script(
                "echo one; while [ ! -e \"$1\" ]; do sleep 0.02; done; echo two; while [ ! -e \"$2\" ]; do sleep 0.02; done; echo three"
            )
            let (first, second) = (directory.path.appending("first"), directory.path.appending("second"))
            let live = LiveOutput()
            #expect(await live.captured == CapturedOutput())
            async let running = ScriptRunner().run(.test(script, [first.string, second.string]), live: live)
            try await eventually { await live.captured.text == "one\n" }
            #expect(FileManager.default.createFile(atPath: first.string, contents: nil))
            try await eventually { await live.captured.text == "one\ntwo\n" }
            #expect(FileManager.default.createFile(atPath: second.string, contents: nil))
            let result = try await running
            #expect(result.output.text == "one\ntwo\nthree\n")
            #expect(await live.captured == result.output)
        }

        @Test("head, tail and the number of bytes between them are always right")
        func bounded() async throws {
            let script = try directory.script(
                "seq 1 5000; while [ ! -e \"$1\" ]; do sleep 0.02; done; seq 5001 9999")
            let go = directory.path.appending("go")
            let live = LiveOutput(headLimit: 100, tailLimit: 200)
            async let running = ScriptRunner().run(.test(script, [go.string]), live: live)
            let all = Array((1...9999).map { "\($0)\n" }.joined().utf8)
            let half = Array((1...5000).map { "\($0)\n" }.joined().utf8)
            try await eventually { await live.captured.dropped == half.count - 300 }
            #expect(await live.captured.head == Array(all.prefix(100)))
            #expect(await live.captured.tail == half.suffix(200))
            #expect(FileManager.default.createFile(atPath: go.string, contents: nil))
            let output = try await running.output
            #expect(
                output == CapturedOutput(head: Array(all.prefix(100)), tail: all.suffix(200), dropped: all.count - 300))
        }
    }
}
