import DirectoryClient
import DirectoryModel
import DirectorySandbox
import TestSupport
import Testing

@Suite(.serialized, .timeLimit(.minutes(10)))
struct TransactionTests {
    private func withEntries(
        _ count: Int, _ body: (DirectorySandbox, DirectoryConnection, DN) async throws -> Void
    ) async throws {
        try await withDirectory { (sandbox, connection) async throws in
            for number in 0..<count {
                let entry = Entry.test("\(number)")
                try await connection.add(entry)
            }
            try await body(sandbox, connection, try #require(await connection.monitorEntry()))
        }
    }

    private func titles(_ count: Int, _ connection: DirectoryConnection) async throws -> [String?] {
        var titles: [String?] = []
        for number in 0..<count {
            titles.append(try await connection.entry(at: .test("\(number)"), attributes: ["title"])?.text("title"))
        }
        return titles
    }

    private func member(_ number: Int, from old: AttributeValue = "open", to new: AttributeValue) -> TransactionMember {
        TransactionMember(.test("\(number)"), [.delete("title", old), .add("title", new)])
    }

    @Test func `many entries are changed at once, again and again on one connection`() async throws {
        try await withEntries(40) { (_, connection, monitor) async throws in
            #expect(
                try await connection.modify(inTransaction: (0..<40).map { member($0, to: "shut") }, watching: monitor)
                    == .committed)
            #expect(try await titles(40, connection) == Array(repeating: "shut", count: 40))
            #expect(
                try await connection.modify(
                    inTransaction: (0..<40).map { member($0, from: "shut", to: "open") }, watching: monitor)
                    == .committed)
            #expect(try await titles(40, connection) == Array(repeating: "open", count: 40))
        }
    }

    @Test func `a member whose old value does not stand there is named, and nothing is changed`() async throws {
        try await withEntries(5) { (_, connection, monitor) async throws in
            var members = (0..<5).map { member($0, to: "shut") }
            members[3] = member(3, from: "elsewhere", to: "shut")
            let outcome = try await connection.modify(inTransaction: members, watching: monitor)
            guard case .refused(member: 3, let error) = outcome else {
                Issue.record("\(outcome)")
                return
            }
            #expect(error.code == .noSuchAttribute)
            #expect(error.operation.contains("cn=3"))
            #expect(try await titles(5, connection) == Array(repeating: "open", count: 5))
            members.remove(at: 3)
            #expect(try await connection.modify(inTransaction: members, watching: monitor) == .committed)
            #expect(try await titles(5, connection) == ["shut", "shut", "shut", "open", "shut"])
        }
    }

    @Test func `a member whose assertion does not hold, that is not there, or that no schema knows is named`()
        async throws
    {
        try await withEntries(3) { (_, connection, monitor) async throws in
            let wrong: [(TransactionMember, ResultCode)] = [
                (
                    TransactionMember(.test("1"), [.replace("title", "shut")], asserting: .equal("title", "ajar")),
                    .assertionFailed
                ),
                (TransactionMember(.test("nobody"), [.replace("title", "shut")]), .noSuchObject),
                (TransactionMember(.test("1"), [.replace("noSuchName", "shut")]), .undefinedAttributeType),
            ]
            for (refused, code) in wrong {
                let outcome = try await connection.modify(
                    inTransaction: [member(0, to: "shut"), refused, member(2, to: "shut")], watching: monitor)
                guard case .refused(member: 1, let error) = outcome else {
                    Issue.record("\(code): \(outcome)")
                    continue
                }
                #expect(error.code == code)
                #expect(try await titles(3, connection) == ["open", "open", "open"])
            }
            #expect(
                try await connection.modify(inTransaction: [member(0, to: "shut")], watching: monitor) == .committed)
        }
    }

    @Test func `an assertion holds within a transaction`() async throws {
        try await withEntries(1) { (_, connection, monitor) async throws in
            let member = TransactionMember(.test("0"), [.replace("title", "shut")], asserting: .equal("title", "open"))
            #expect(try await connection.modify(inTransaction: [member], watching: monitor) == .committed)
            #expect(try await titles(1, connection) == ["shut"])
        }
    }

    @Test func `a server that is busy with many transactions lives`() async throws {
        let (connections, rounds, members) = (6, 100, 10)
        try await withEntries(connections * members) { (sandbox, connection, _) async throws in
            try await withThrowingTaskGroup { tasks in
                for number in 0..<connections {
                    tasks.addTask {
                        let own = try await sandbox.connect()
                        let monitor = try #require(await own.monitorEntry())
                        for round in 0..<rounds {
                            let changes = (0..<members).map {
                                TransactionMember(
                                    .test("\(number * members + $0)"), [.replace("title", AttributeValue("\(round)"))])
                            }
                            #expect(try await own.modify(inTransaction: changes, watching: monitor) == .committed)
                        }
                        own.close()
                    }
                }
                try await tasks.waitForAll()
            }
            let all = try await titles(connections * members, connection)
            #expect(all == Array(repeating: "\(rounds - 1)", count: connections * members))
        }
    }

    @Test func `a transaction comes to its end whoever is cancelled and whoever closes, and the server lives`()
        async throws
    {
        try await withEntries(20) { (sandbox, connection, _) async throws in
            for round in 0..<100 {
                let own = try await sandbox.connect()
                let monitor = try #require(await own.monitorEntry())
                let members = (0..<20).map {
                    TransactionMember(.test("\($0)"), [.replace("title", AttributeValue("\(round)"))])
                }
                let task = Task { try await own.modify(inTransaction: members, watching: monitor) }
                for _ in 0..<(round * 5) { await Task.yield() }
                task.cancel()
                own.close()
                #expect(own.isClosed)
                // Whether it had begun when the connection was closed is left to chance.
                if case .success(let outcome) = await task.result { #expect(outcome == .committed) }
                #expect(Set(try await titles(20, connection)).count == 1)
            }
        }
    }
}
