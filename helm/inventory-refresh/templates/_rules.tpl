{{/* The groups of the PrometheusRule: those of alerts/ with the changes of prometheusRule.alerts, and extraGroups. */}}
{{- define "inventory-refresh.ruleGroups" -}}
{{- $groups := list -}}
{{- range $group := include "inventory-refresh.ownGroups" . | fromYamlArray -}}
{{- $rules := list -}}
{{- range $rule := $group.rules -}}
{{- $changes := get $.Values.prometheusRule.alerts (default "" $rule.alert) | default dict -}}
{{- if ternary $changes.enabled true (hasKey $changes "enabled") -}}
{{- $rules = append $rules (include "inventory-refresh.rule" (dict "root" $ "rule" $rule "changes" $changes) | fromYaml) -}}
{{- end -}}
{{- end -}}
{{- if $rules -}}
{{- $groups = append $groups (dict "name" $group.name "rules" $rules) -}}
{{- end -}}
{{- end -}}
{{- $extra := .Values.prometheusRule.extraGroups | toYaml | replace "job=\"inventory-refresh\"" (include "inventory-refresh.ruleSelector" .) | fromYamlArray -}}
{{- concat $groups $extra | toYaml -}}
{{- end }}

{{/* The groups of alerts/, limited to this release. Its namespace appears in the texts too. */}}
{{- define "inventory-refresh.ownGroups" -}}
{{- $file := .Files.Get "alerts/inventory-refresh.rules.yaml" -}}
{{- $file = $file | replace "job=\"inventory-refresh\"" (include "inventory-refresh.ruleSelector" .) -}}
{{- $file = $file | replace "{{ $labels.job }}" "{{ $labels.namespace }}/{{ $labels.job }}" -}}
{{- with .Values.prometheusRule.runbookUrl -}}
{{- $file = regexReplaceAll "(runbook_url: *['\"]?)docs/operations\\.md" $file (printf "${1}%s" .) -}}
{{- end -}}
{{- (fromYaml $file).groups | toYaml -}}
{{- end }}

{{- define "inventory-refresh.ruleSelector" -}}
{{- printf "namespace=%q,job=%q" .Release.Namespace .Release.Name -}}
{{- end }}

{{/* One alert: dict "root" $ "rule" RULE "changes" CHANGES, where changes are those of prometheusRule.alerts. */}}
{{- define "inventory-refresh.rule" -}}
{{- $rule := deepCopy .rule -}}
{{- if hasKey .changes "threshold" -}}
{{- $_ := set $rule "expr" (regexReplaceAll "[0-9.]+( # threshold)" $rule.expr (printf "%s${1}" (toJson .changes.threshold))) -}}
{{- end -}}
{{- with .changes.for -}}
{{- $_ := set $rule "for" . -}}
{{- end -}}
{{- $severity := ternary (dict "severity" .changes.severity) dict (hasKey .changes "severity") -}}
{{- $_ := set $rule "labels" (merge dict $severity (.changes.labels | default dict) .root.Values.prometheusRule.alertLabels ($rule.labels | default dict)) -}}
{{- $_ := set $rule "annotations" (merge dict (.changes.annotations | default dict) ($rule.annotations | default dict)) -}}
{{- toYaml $rule -}}
{{- end }}

{{/* Problems of prometheusRule.alerts: names that do not exist, thresholds of alerts without one. */}}
{{- define "inventory-refresh.ruleProblems" -}}
{{- $problems := list -}}
{{- if .Values.prometheusRule.alerts -}}
{{- $exprs := dict -}}
{{- range (include "inventory-refresh.ownGroups" . | fromYamlArray) -}}
{{- range .rules -}}
{{- $_ := set $exprs (.alert | default .record) .expr -}}
{{- end -}}
{{- end -}}
{{- range $name, $changes := .Values.prometheusRule.alerts -}}
{{- if not (hasKey $exprs $name) -}}
{{- $problems = append $problems (printf "prometheusRule.alerts: there is no alert %s; alerts/inventory-refresh.rules.yaml has their names" $name) -}}
{{- else if and (hasKey $changes "threshold") (not (contains "# threshold" (get $exprs $name))) -}}
{{- $problems = append $problems (printf "prometheusRule.alerts: %s has no threshold; alerts/inventory-refresh.rules.yaml marks those that have one" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $problems -}}
{{- end }}
