import Glibc
import Testing

@testable import JobCore

@Suite struct ScriptSupervisionTests {
    typealias Event = ScriptSupervision.Event
    typealias Action = ScriptSupervision.Action

    static let courses: [(events: [Event], actions: [Action], cause: ScriptResult.Cause)] = [
        ([.exited], [.sweep], .itself),
        ([.timeLimitReached, .exited], [.terminate, .sweep], .timeLimit),
        ([.cancelled, .exited], [.terminate, .sweep], .cancellation),
        ([.timeLimitReached, .graceOver, .exited], [.terminate, .kill, .sweep], .timeLimit),
        ([.cancelled, .graceOver, .exited], [.terminate, .kill, .sweep], .cancellation),
        ([.timeLimitReached, .cancelled, .graceOver, .exited], [.terminate, .nothing, .kill, .sweep], .timeLimit),
        (
            [.cancelled, .cancelled, .timeLimitReached, .exited], [.terminate, .nothing, .nothing, .sweep],
            .cancellation
        ),
        (
            [.cancelled, .graceOver, .timeLimitReached, .graceOver, .exited],
            [.terminate, .kill, .nothing, .nothing, .sweep], .cancellation
        ),
        (
            [.exited, .cancelled, .timeLimitReached, .graceOver, .exited],
            [.sweep, .nothing, .nothing, .nothing, .nothing], .itself
        ),
    ]

    @Test("each sequence of events leads to its actions and its cause", arguments: courses)
    func course(_ course: (events: [Event], actions: [Action], cause: ScriptResult.Cause)) {
        var supervision = ScriptSupervision()
        #expect(course.events.map { supervision.handle($0) } == course.actions)
        #expect(supervision.cause == course.cause)
        #expect(supervision.state == .ended)
    }

    @Test("in every order of events, a script gets SIGTERM once, SIGKILL only after that, and is swept once")
    func everyOrder() {
        let events = Event.allCases
        for code in 0..<(4 * 4 * 4 * 4 * 4 * 4) {
            var supervision = ScriptSupervision()
            let actions = (0..<6).map { supervision.handle(events[code >> (2 * $0) & 3]) }
            let lastSignal = actions.contains(.kill) ? SIGKILL : actions.contains(.terminate) ? SIGTERM : nil
            #expect(supervision.lastSignal == lastSignal)
            #expect(actions.count { $0 == .terminate } <= 1)
            #expect(actions.count { $0 == .kill } <= 1)
            #expect(actions.count { $0 == .sweep } <= 1)
            if let kill = actions.firstIndex(of: .kill) { #expect(actions[..<kill].contains(.terminate)) }
            if let sweep = actions.firstIndex(of: .sweep) {
                #expect(actions[(sweep + 1)...].allSatisfy { $0 == .nothing })
            }
        }
    }
}
