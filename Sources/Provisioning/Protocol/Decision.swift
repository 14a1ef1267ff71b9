import LDAP
public import JobCore

/// What this daemon does with an account that stands as it does now.
public enum Decision: Hashable, Sendable {
    /// Nothing.
    case leave(LeaveReason)
    /// The wish's day has not begun.
    case wait(until: Timestamp)
    /// The request's day has begun by a clock that may be wrong.
    case waitForClock
    /// The wish is to be carried out now.
    case claim(Operation)
    /// Claimed by us and never finished: the daemon was stopped, or crashed, or waits for the next attempt.
    case resume(Operation)
    /// The wish cannot be carried out as it stands.
    case refuse(ProvisioningFailure)
}

/// Why an account is left alone.
public enum LeaveReason: Hashable, Sendable {
    /// Its state is not `0`.
    case nothingAsked
    /// Its wish has been carried out.
    case done
    /// The last attempt failed with this ReturnValue, and nobody has asked for another.
    case failed(returnValue: String)
    /// It names only hosts of others.
    case otherHost([String])
    /// It names none, and this daemon serves certain hosts.
    case noHost
    /// It names a host of ours and one of others: without a claim attribute each would take the other's claim for its own
    /// unfinished one.
    case sharedHosts([String])
    /// Another daemon holds the claim.
    case claimed(by: String)
    /// The day has passed and the settings say that such a wish is not made up for.
    case overdue(String)
}

/// By which rules a daemon decides.
public struct DecisionPolicy: Sendable {
    /// Whose accounts are ours; nil: all of them (setting `HOST`).
    public var hosts: Set<String>?
    /// Whether a wish whose day passed while the daemon was away is carried out (setting `OVERDUE`).
    public var runsOverdue: Bool
    /// Whether `delete` needs `sstIsActive: FALSE` (setting `REQUIRE_INACTIVE_FOR_DELETE`).
    public var deleteNeedsInactive: Bool
    /// Who we are in the claim attribute, when there is one.
    public var claimHolder: String
    /// Where the day of a wish begins.
    public var calendar: DayCalendar
    /// What the attributes are called.
    public var names: AttributeNames

    /// - Parameter hosts: compared as `caseIgnoreMatch` does; nil serves every account.
    public init(
        hosts: [String]? = nil, runsOverdue: Bool = true, deleteNeedsInactive: Bool = true, claimHolder: String = "",
        calendar: DayCalendar = .system, names: AttributeNames = AttributeNames()
    ) {
        self.hosts = hosts.map { Set($0.map(\.caseIgnoreFolded)) }
        self.runsOverdue = runsOverdue
        self.deleteNeedsInactive = deleteNeedsInactive
        self.claimHolder = claimHolder
        self.calendar = calendar
        self.names = names
    }

    /// Decides from the entry's present state alone; what led to the look does not matter.
    /// - Parameters:
    ///   - ignoringDate: an operator wants it carried out now, whatever its day.
    ///   - isClockDoubted: whether the clock may be wrong; asked only where a day counts.
    public func decide(
        _ status: AccountStatus, now: Timestamp, ignoringDate: Bool = false, isClockDoubted: () -> Bool = { false }
    ) -> Decision {
        if let reason = notOurs(status) { return .leave(reason) }
        // Also where something is asked: the holder may still work on what was asked before.
        if status.phase == .wished || status.phase == .claimed, names.claim != nil, let claim = status.claim,
            !isOwn(claim)
        {
            return .leave(.claimed(by: claim))
        }
        switch status.phase {
        case .idle: return .leave(.nothingAsked)
        case .done: return .leave(.done)
        case .failed: return .leave(.failed(returnValue: status.returnValue ?? ""))
        case .claimed:
            if let refusal = liveAccountRefusal(status) { return .refuse(refusal) }
            return .resume(status.mode.operation)
        case .wished:
            return decideRequest(status, now: now, ignoringDate: ignoringDate, isClockDoubted)
        }
    }

    private func decideRequest(
        _ status: AccountStatus, now: Timestamp, ignoringDate: Bool, _ isClockDoubted: () -> Bool
    ) -> Decision {
        guard let date = ExecutionDate(status.date ?? "0") else {
            return .refuse(
                ProvisioningFailure(
                    .undefinedError,
                    reason:
                        "\(names.dates[0]) of \(status.dn) is \((status.date ?? "").quotedValue), which names no day",
                    hint: "write 0 for at once, or a day as YYYYMMDD, and the wish again"))
        }
        if case .on(let day) = date, !ignoringDate {
            let start = calendar.startOfDay(day)
            if start > now { return .wait(until: start) }
            if isClockDoubted() { return .waitForClock }
            if !runsOverdue, day < calendar.day(now) { return .leave(.overdue(status.date ?? "")) }
        }
        if let refusal = liveAccountRefusal(status) { return .refuse(refusal) }
        return .claim(status.mode.operation)
    }

    /// Whether a claim is this daemon's, of this run or an earlier one.
    func isOwn(_ claim: String) -> Bool { claim.hasPrefix(claimHolder + " ") }

    private func notOurs(_ status: AccountStatus) -> LeaveReason? {
        guard let hosts else { return nil }
        if status.hosts.isEmpty { return .noHost }
        let others = status.hosts.filter { !hosts.contains($0.caseIgnoreFolded) }
        if others.count == status.hosts.count { return .otherHost(others) }
        return others.isEmpty || names.claim != nil ? nil : .sharedHosts(status.hosts)
    }

    /// A delete of an account that is still active: somebody may have written it by mistake.
    private func liveAccountRefusal(_ status: AccountStatus) -> ProvisioningFailure? {
        guard deleteNeedsInactive, status.mode.operation == .delete, status.isActive else { return nil }
        return ProvisioningFailure(
            .undefinedError,
            reason: "\(status.dn) is to be deleted, and its \(names.active) is TRUE",
            hint:
                "set \(names.active) to FALSE and write \(names.mode): delete again, or set REQUIRE_INACTIVE_FOR_DELETE = no"
        )
    }
}

extension LeaveReason: CustomStringConvertible {
    /// The reason as half a sentence.
    public var description: String {
        switch self {
        case .nothingAsked: "a mode without state 0 asks for nothing"
        case .done: "done"
        case .failed(let value):
            "the last attempt failed with ReturnValue \(value.quotedValue), and nobody has asked for another"
        case .otherHost(let hosts): "it belongs to \(hosts.quoted)"
        case .noHost: "it names no host, and this daemon serves only those of certain hosts"
        case .sharedHosts(let hosts):
            "it names hosts of several daemons, which need a claim attribute for that: \(hosts.quoted)"
        case .claimed(let holder): "another daemon holds the claim: \(holder.quotedValue)"
        case .overdue(let date): "its day \(date.quotedValue) has passed, and overdue requests are skipped"
        }
    }
}

extension [String] {
    /// For messages: the first ones.
    fileprivate var quoted: String {
        prefix(5).map(\.quotedValue).joined(separator: ", ") + (count > 5 ? " and \(count - 5) more" : "")
    }
}
